// Deliberate breakages, each at a place where the simulator stands in for something: a change that leaves one of these out of
// the product has to be found, and quickly.

/** With the first seed, from 0 on, that has found it when this was written. */
export const MUTATIONS = {
  "the log takes an entry whatever sequence it expects": 0,
  "an owner does not look whether it still is the owner": 0,
  "a record is taken whatever its revision": 0,
  "ranks take old attempts for new ones": 0,
  "ranks keep what was not accepted": 0,
  "ranks do not free the KV of ended sessions": 0,
  "a rank's answer reaches whoever asked last": 0,
  "rows that come from elsewhere are put beside their place": 0,
  "what has moved away is not freed": 0,
  "readers take every entry as new": 0,
  "an old controller writes over its successor's record": 0,
  "a host answers for another epoch": 0,
  "a standby is behind by one delta": 0,
} as const
export type Mutation = keyof typeof MUTATIONS
