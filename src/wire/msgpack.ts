// Whether a message is msgpack that is safe to unpack: walked once, without recursion and without making anything, so that
// nesting, announced sizes and types of a stranger cost no stack and no memory.

/** Our own messages nest to 6. */
const MOST_DEPTH = 32

/** Payload bytes that follow a first byte from 0xc0 on; a size that is itself in the message is `sized`. */
const FIXED: Readonly<Record<number, number>> = {
  ...{ 192: 0, 194: 0, 195: 0, 202: 4, 203: 8 }, // nil, booleans, floats
  ...{ 204: 1, 205: 2, 206: 4, 207: 8, 208: 1, 209: 2, 210: 4, 211: 8 }, // integers
}
/** Strings and bytes: how many bytes their size takes. */
const SIZED: Readonly<Record<number, number>> = { 196: 1, 197: 2, 198: 4, 217: 1, 218: 2, 219: 4 }
/** Arrays and maps: how many bytes their count takes, and how many values one of them is. */
const COUNTED: Readonly<Record<number, readonly [bytes: number, each: number]>> = {
  ...{ 220: [2, 1], 221: [4, 1], 222: [2, 2], 223: [4, 2] },
}

interface Head {
  readonly bytes: number // of the value itself, its head included
  readonly values: number // that follow as its own: a map's keys and what they stand for count each
  readonly map?: boolean
}

/** A value that is begun and has more to come. */
interface Open {
  left: number
  readonly map: boolean
}

/** What is wrong with a message; null where nothing is. */
export const flawOf = (message: Uint8Array): string | null => {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength)
  const open: Array<Open> = [{ left: 1, map: false }] // the outermost first
  let at = 0
  for (;;) {
    while (open.at(-1)?.left === 0) open.pop()
    const inner = open.at(-1)
    if (inner === undefined)
      return at === message.byteLength ? null : `${message.byteLength - at} bytes too many at its end`
    if (open.length > MOST_DEPTH) return `nested deeper than ${MOST_DEPTH}`
    const head = at < message.byteLength ? headOf(view, at) : undefined
    if (head === null) return `a type that no message has, at byte ${at}`
    if (head === undefined || head.bytes + head.values > message.byteLength - at) return `ends too early, at byte ${at}`
    if (inner.map && inner.left % 2 === 0 && !isText(view.getUint8(at))) return `a key that is no text, at byte ${at}`
    at += head.bytes
    inner.left--
    if (head.values > 0) open.push({ left: head.values, map: head.map === true })
  }
}

const isText = (first: number): boolean => (first >= 0xa0 && first <= 0xbf) || (first >= 0xd9 && first <= 0xdb)

/** Null for what is not known, undefined where the head is cut off. */
const headOf = (view: DataView, at: number): Head | null | undefined => {
  const first = view.getUint8(at)
  if (first <= 0x7f || first >= 0xe0) return { bytes: 1, values: 0 }
  if (first <= 0x8f) return { bytes: 1, values: 2 * (first & 0x0f), map: true }
  if (first <= 0x9f) return { bytes: 1, values: first & 0x0f }
  if (first <= 0xbf) return { bytes: 1 + (first & 0x1f), values: 0 }
  const fixed = FIXED[first]
  if (fixed !== undefined) return { bytes: 1 + fixed, values: 0 }
  const sized = SIZED[first]
  if (sized !== undefined) {
    const size = unsigned(view, at + 1, sized)
    return size === undefined ? undefined : { bytes: 1 + sized + size, values: 0 }
  }
  const counted = COUNTED[first]
  if (counted === undefined) return null
  const [bytes, each] = counted
  const count = unsigned(view, at + 1, bytes)
  return count === undefined ? undefined : { bytes: 1 + bytes, values: each * count, map: each === 2 }
}

const unsigned = (view: DataView, at: number, bytes: number): number | undefined => {
  if (at + bytes > view.byteLength) return undefined
  return bytes === 1 ? view.getUint8(at) : bytes === 2 ? view.getUint16(at) : view.getUint32(at)
}
