// Deliberate breakages, each at a place where the simulator stands in for something: whoever leaves one of these out of the
// product has to be found out, and quickly.

export const MUTATIONS = [
  "the log takes an entry whatever sequence it expects",
  "an owner does not look whether it still is the owner",
  "a record is taken whatever its revision",
  "the KV of all owners of a session has one name",
  "ranks take old attempts for new ones",
  "ranks keep what was not accepted",
  "ranks do not free the KV of ended sessions",
  "a rank's answer reaches whoever asked last",
  "readers take every entry as new",
] as const
export type Mutation = (typeof MUTATIONS)[number]
