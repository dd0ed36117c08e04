// Deliberate breakages, each at a place where the simulator stands in for something: a change that leaves one of these out of
// the product has to be found, and quickly.

/** With a seed that has found it; null where none has been found for it in these worlds yet. */
export const MUTATIONS = {
  "the log takes an entry whatever sequence it expects": null,
  "an owner does not look whether it still is the owner": null,
  "a record is taken whatever its revision": 7,
  "ranks take old attempts for new ones": 23,
  "ranks keep what was not accepted": 31,
  "ranks do not free the KV of ended sessions": 0,
  "a rank's answer reaches whoever asked last": 0,
  "rows that come from elsewhere are put beside their place": 11,
  "what has moved away is not freed": null,
  "readers take every entry as new": 0,
  "an old controller writes over its successor's record": null,
  "a host answers for another epoch": null,
  "a standby is behind by one delta": 46,
} as const
export type Mutation = keyof typeof MUTATIONS
