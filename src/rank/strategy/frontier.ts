// The rows of a draft step on their way from the leader, which has the trees, to the other ranks: tokens, then the slots of
// their parents, 32 bits each, little-endian. Where several sessions draft together, the number of rows of each comes first;
// a session that needs none any more has 0. They ride with the step's first activation.
import type { Segment } from "../../../native/index.ts"

/** `sessions`: all that draft together, in the order of the command. */
export const packFrontier = (sessions: ReadonlyArray<string>, rows: ReadonlyArray<Segment>): Uint8Array => {
  const counts =
    sessions.length === 1 ? [] : sessions.map((name) => countOf(rows.find(({ session }) => session === name)))
  const numbers = [
    ...counts,
    ...rows.flatMap(({ tokens }) => [...tokens]),
    ...rows.flatMap(({ parents }) => [...parents]),
  ]
  const packed = new Uint8Array(4 * numbers.length)
  const view = new DataView(packed.buffer)
  for (const [i, number] of numbers.entries()) view.setInt32(4 * i, number, true)
  return packed
}

export const unpackFrontier = (sessions: ReadonlyArray<string>, packed: Uint8Array): ReadonlyArray<Segment> => {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength)
  const numbers = Array.from({ length: Math.floor(packed.byteLength / 4) }, (_, i) => view.getInt32(4 * i, true))
  const counts = sessions.length === 1 ? [Math.floor(numbers.length / 2)] : numbers.splice(0, sessions.length)
  const rows = Math.floor(numbers.length / 2)
  let at = 0
  return sessions.flatMap((session, i) => {
    const from = at
    at += counts[i] ?? 0
    if (at === from) return []
    const tokens = Int32Array.from(numbers.slice(from, at))
    return [{ session, tokens, parents: Int32Array.from(numbers.slice(rows + from, rows + at)) }]
  })
}

const countOf = (segment: Segment | undefined): number => segment?.tokens.length ?? 0
