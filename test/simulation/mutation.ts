// Deliberate breakages, each at a place where the simulator stands in for something: a change that leaves one of these out of
// the product has to be found, and quickly.

/** With the first seed, from 0 on, that has found it when this was written. */
export const MUTATIONS = {
  "the log takes an entry whatever sequence it expects": 39,
  "an owner does not look whether it still is the owner": 31,
  "a record is taken whatever its revision": 24,
  "ranks take old attempts for new ones": 375,
  "ranks keep what was not accepted": 32,
  "ranks do not free the KV of ended sessions": 0,
  "a rank's answer reaches whoever asked last": 0,
  "rows that come from elsewhere are put beside their place": 7,
  "what has moved away is not freed": 7,
  "readers take every entry as new": 0,
} as const
export type Mutation = keyof typeof MUTATIONS
