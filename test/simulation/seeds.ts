// Seeds that a simulation has failed with, and what was found with each. They are run before all others.

export interface Failed {
  readonly seed: number
  readonly drains: boolean // false: found when no replica drained, and no session had a deadline
  readonly found: string
}

export const FAILED: ReadonlyArray<Failed> = [
  { seed: 10, drains: false, found: "KV of a session whose Release a rank had not heard, kept for ever" },
  { seed: 17, drains: false, found: "the same, of another rank" },
  { seed: 280, drains: false, found: "a pass whose command a rank had not heard, never asked for again" },
  { seed: 296, drains: false, found: "the same, of another group" },
  { seed: 571, drains: false, found: "a record that was created twice, and stayed when the session had ended" },
  { seed: 809, drains: false, found: "the same, with another owner" },
  { seed: 735, drains: false, found: "the KV of two owners under one name: the session failed" },
  {
    seed: 1560,
    drains: false,
    found: "an owner that took another one's abort for the client's: the session ended as cancelled",
  },
  {
    seed: 1602,
    drains: false,
    found: "a rank that was started again between two chunks of a prefill: the session failed",
  },
  { seed: 85698, drains: false, found: "a former owner's entry after a later one's, in a log that had lost its tail" },
  {
    seed: 98145,
    drains: false,
    found: "that a record made twice gives an epoch to a second owner, which finds the session's end in the log",
  },
  {
    seed: 36855,
    drains: false,
    found: "a record of an ended session, made again by a message that came twice: it was neither run nor freed",
  },
  { seed: 38694, drains: false, found: "the same, with a session that had ended before its first token" },
  { seed: 123491, drains: false, found: "the same, of the third session" },
  {
    seed: 7,
    drains: true,
    found: "a session that moved, and whose old place was freed when the first rank had its KV",
  },
  {
    seed: 971,
    drains: true,
    found: "KV from two groups in parts that came in between one another: neither was whole",
  },
  {
    seed: 2105,
    drains: true,
    found: "KV of a session that was taken over, on the ranks that filled its prompt in: it was never freed",
  },
  {
    seed: 7302,
    drains: true,
    found:
      "a pass of a session that rows were just being given of, to a rank that did not know that it went on there: it failed",
  },
  {
    seed: 28362,
    drains: true,
    found:
      "a reader that looked for a former owner's tokens behind a later one's entry, and was told that they had expired",
  },
  {
    seed: 200448,
    drains: true,
    found:
      "a session whose end the log did not take, and which then began with the KV that it had left itself: it failed",
  },
  {
    seed: 201370,
    drains: true,
    found: "an owner that gave up on a log whose servers had not agreed for five seconds: the session never ended",
  },
  {
    seed: 301853,
    drains: true,
    found: "a reader of a log that had lost all, and missed the prompt's tokens when they were written again",
  },
]
