// Seeds that a simulation has failed with, and what was found with each. They are run before all others.

export interface Failed {
  readonly seed: number
  readonly found: string
}

export const FAILED: ReadonlyArray<Failed> = [
  { seed: 10, found: "KV of a session whose Release a rank had not heard, kept for ever" },
  { seed: 17, found: "the same, of another rank" },
  { seed: 280, found: "a pass whose command a rank had not heard, never asked for again" },
  { seed: 296, found: "the same, of another group" },
  { seed: 571, found: "a record that was created twice, and stayed when the session had ended" },
  { seed: 809, found: "the same, with another owner" },
  { seed: 735, found: "the KV of two owners under one name: the session failed" },
  { seed: 1560, found: "an owner that took another one's abort for the client's: the session ended as cancelled" },
  { seed: 1602, found: "a rank that was started again between two chunks of a prefill: the session failed" },
  { seed: 85698, found: "a former owner's entry after a later one's, in a log that had lost its tail" },
  {
    seed: 98145,
    found: "that a record made twice gives an epoch to a second owner, who finds the session's end in the log",
  },
  {
    seed: 36855,
    found: "a record of an ended session, made again by a message that came twice: nobody ran it, nobody freed it",
  },
  { seed: 38694, found: "the same, with a session that had ended before its first token" },
  { seed: 123491, found: "the same, of the third session" },
]
