// The activations that have come and are not read yet. A peer may be ahead of this rank, or of its command, so early ones
// wait here; what is doubled, or of a pass that has ended, is dropped. Plain data and callbacks; exchange.ts makes effects of it.
import type { Activation } from "../wire/activation.ts"
import type { Part } from "../wire/part.ts"

/** Of one attempt at a pass. */
export type PassKey = `${number}.${number}`
export const passKey = ({ pass, attempt }: { readonly pass: number; readonly attempt: number }): PassKey =>
  `${pass}.${attempt}`

/** Where an activation belongs within its pass. */
type StepKey = `${number}.${number}`
const placeOf = (step: number, rank: number): StepKey => `${step}.${rank}`

export interface Limits {
  readonly earlyBytes: number // held for passes whose command has not come; the oldest pass goes first
  readonly endedPasses: number // remembered, so that what comes late for them is dropped
}

/** What holding a message takes besides its payload, about: empty ones must not be free. */
export const HELD_BYTES = 200
const bytesOf = ({ values, nodes }: Activation): number => values.byteLength + nodes.byteLength + HELD_BYTES

/** The pieces of one activation, by their index. As many as have come, however many were announced. */
interface Parts {
  readonly count: number
  readonly pieces: Map<number, Uint8Array>
}

type Waiter = (activation: Activation | null) => void

class Mailbox {
  readonly arrived = new Map<StepKey, Activation>()
  readonly parts = new Map<StepKey, Parts>()
  readonly taken = new Set<StepKey>()
  readonly waiting = new Map<StepKey, Waiter>()
  bytes = 0 // held, parts included
}

export class Inbox {
  readonly #limits: Limits
  readonly #open = new Map<PassKey, Mailbox>()
  readonly #early = new Map<PassKey, Mailbox>() // the oldest first
  readonly #ended = new Set<PassKey>()
  #earlyBytes = 0

  constructor(limits: Limits) {
    this.#limits = limits
  }

  /** Takes an activation in; false when it was dropped as doubled or late. */
  deliver(activation: Activation): boolean {
    const key = passKey(activation)
    const box = this.#boxOf(key)
    const place = placeOf(activation.step, activation.rank)
    if (box === undefined || box.taken.has(place) || box.arrived.has(place)) return false
    const waiter = box.waiting.get(place)
    if (waiter !== undefined) {
      box.waiting.delete(place)
      box.taken.add(place)
      waiter(activation)
    } else {
      box.arrived.set(place, activation)
      this.#hold(key, box, bytesOf(activation))
    }
    return true
  }

  /** Takes a part in; the whole encoded activation when this was the last one missing. */
  deliverPart(part: Part): Uint8Array | undefined {
    const key = passKey(part)
    const box = this.#boxOf(key)
    const place = placeOf(part.step, part.rank)
    if (box === undefined || box.taken.has(place) || box.arrived.has(place)) return undefined
    const parts = box.parts.get(place) ?? { count: part.count, pieces: new Map<number, Uint8Array>() }
    const { count, pieces } = parts
    if (count !== part.count || pieces.has(part.index)) return undefined
    box.parts.set(place, parts)
    pieces.set(part.index, part.piece)
    this.#hold(key, box, part.piece.byteLength + HELD_BYTES)
    if (pieces.size < count) return undefined
    box.parts.delete(place)
    const whole = Buffer.concat([...pieces].sort(([a], [b]) => a - b).map(([, piece]) => piece))
    this.#hold(key, box, -whole.byteLength - count * HELD_BYTES)
    return whole
  }

  /** The pass's command has come: what arrives for it now is kept without a bound but that of the pass itself. */
  open(key: PassKey): void {
    const box = this.#early.get(key) ?? new Mailbox()
    if (this.#early.delete(key)) this.#earlyBytes -= box.bytes
    this.#ended.delete(key)
    this.#open.set(key, box)
  }

  /** The pass has ended, or is abandoned: its waiting fibres get null. */
  close(key: PassKey): void {
    const box = this.#open.get(key)
    if (!this.#open.delete(key)) return
    this.#ended.add(key)
    for (const oldest of this.#ended) {
      if (this.#ended.size <= this.#limits.endedPasses) break
      this.#ended.delete(oldest)
    }
    for (const waiter of box?.waiting.values() ?? []) waiter(null)
  }

  /** The connection was lost, and with it whatever was on the way. */
  closeAll(): void {
    for (const key of [...this.#open.keys()]) this.close(key)
  }

  take(key: PassKey, step: number, rank: number): Activation | undefined {
    const box = this.#open.get(key)
    const place = placeOf(step, rank)
    const activation = box?.arrived.get(place)
    if (box === undefined || activation === undefined) return undefined
    box.arrived.delete(place)
    box.taken.add(place)
    box.bytes -= bytesOf(activation)
    return activation
  }

  /** Calls `waiter` with the activation when it comes, or with null when the pass is closed first. */
  wait(key: PassKey, step: number, rank: number, waiter: Waiter): void {
    const box = this.#open.get(key)
    if (box === undefined) waiter(null)
    else box.waiting.set(placeOf(step, rank), waiter)
  }

  forget(key: PassKey, step: number, rank: number): void {
    this.#open.get(key)?.waiting.delete(placeOf(step, rank))
  }

  #boxOf(key: PassKey): Mailbox | undefined {
    const open = this.#open.get(key)
    if (open !== undefined) return open
    if (this.#ended.has(key)) return undefined
    const early = this.#early.get(key) ?? new Mailbox()
    this.#early.set(key, early)
    return early
  }

  #hold(key: PassKey, box: Mailbox, bytes: number): void {
    box.bytes += bytes
    if (!this.#early.has(key)) return
    this.#earlyBytes += bytes
    for (const [oldest, { bytes: held }] of this.#early) {
      if (this.#earlyBytes <= this.#limits.earlyBytes) break
      this.#early.delete(oldest)
      this.#earlyBytes -= held
    }
  }
}
