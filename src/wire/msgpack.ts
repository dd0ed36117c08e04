// Whether a message is msgpack that is safe to unpack: walked once, without recursion and without making anything, so that
// nesting, announced sizes and types of a stranger cost no stack and no memory.

/** Our own messages nest to 6. */
const MOST_DEPTH = 32

const NONE = -1

/** By first byte. */
const table = (bytes: Readonly<Record<number, number>>): Int8Array => {
  const all = new Int8Array(256).fill(NONE)
  for (const [first, size] of Object.entries(bytes)) all[Number(first)] = size
  return all
}

/** Payload bytes that follow a first byte from 0xc0 on; a size that is itself in the message is `sized`. */
const FIXED = table({
  ...{ 192: 0, 194: 0, 195: 0, 202: 4, 203: 8 }, // nil, booleans, floats
  ...{ 204: 1, 205: 2, 206: 4, 207: 8, 208: 1, 209: 2, 210: 4, 211: 8 }, // integers
})
/** Strings and bytes: how many bytes their size takes. */
const SIZED = table({ 196: 1, 197: 2, 198: 4, 217: 1, 218: 2, 219: 4 })
/** Arrays and maps: how many bytes their count takes. */
const COUNTED = table({ 220: 2, 221: 4, 222: 2, 223: 4 })

/** Of the values that are begun, by depth: how many are to come, and whether it is a map. One message is walked at a time. */
const left = new Float64Array(MOST_DEPTH + 2)
const maps = new Uint8Array(MOST_DEPTH + 2)

/** What is wrong with a message; null where nothing is. */
export const flawOf = (message: Uint8Array): string | null => {
  const end = message.byteLength
  let depth = 0
  let at = 0
  left[0] = 1
  maps[0] = 0
  for (;;) {
    while (depth >= 0 && left[depth] === 0) depth--
    if (depth < 0) return at === end ? null : `${end - at} bytes too many at its end`
    if (depth >= MOST_DEPTH) return `nested deeper than ${MOST_DEPTH}`
    if (at >= end) return tooEarly(at)
    const first = message[at] ?? 0
    const sized = SIZED[first] ?? NONE
    const counted = COUNTED[first] ?? NONE
    const size = Math.max(0, sized, counted) // of the head, after its first byte
    if (at + 1 + size > end) return tooEarly(at)
    const told = size === 0 ? 0 : unsigned(message, at + 1, size)
    const bytes = sized === NONE ? 0 : told
    let values = counted === NONE ? 0 : told
    let map = first === 222 || first === 223
    let payload = bytes
    if (first >= 0x80 && first <= 0x9f) {
      values = first & 0x0f
      map = first <= 0x8f
    } else if (first >= 0xa0 && first <= 0xbf) payload = first & 0x1f
    else if (first >= 0xc0 && first <= 0xdf && size === 0) {
      payload = FIXED[first] ?? NONE
      if (payload === NONE) return `a type that no message has, at byte ${at}`
    }
    if (map) values *= 2 // its keys and what they stand for count each
    if (1 + size + payload + values > end - at) return tooEarly(at)
    const inner = left[depth] ?? 0
    if (maps[depth] === 1 && inner % 2 === 0 && !isText(first)) return `a key that is no text, at byte ${at}`
    left[depth] = inner - 1
    at += 1 + size + payload
    if (values === 0) continue
    depth++
    left[depth] = values
    maps[depth] = map ? 1 : 0
  }
}

const tooEarly = (at: number): string => `ends too early, at byte ${at}`

const isText = (first: number): boolean => (first >= 0xa0 && first <= 0xbf) || (first >= 0xd9 && first <= 0xdb)

const unsigned = (message: Uint8Array, at: number, bytes: number): number => {
  let value = 0
  for (let i = at; i < at + bytes; i++) value = value * 256 + (message[i] ?? 0)
  return value
}
