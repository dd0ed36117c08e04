// How activations get from a rank of a group to the others. An exchange encodes, splits and counts; a transport carries bytes.
import type { Effect, Scope } from "effect"

export interface Transport {
  /** Hands a message to one rank, or to all others. Whether it arrives is not said: a pass that misses one is repeated. */
  readonly send: (to: number | "all", message: Uint8Array) => void
  /** Bytes of the largest message that goes through whole. */
  readonly maxPayload: () => number
}

export interface Reception {
  readonly received: (message: Uint8Array) => void
  /** What was on the way is lost. */
  readonly broken: () => void
}

/** Opens a way to the other ranks, which closes with the scope. */
export type OpenTransport<R> = (reception: Reception) => Effect.Effect<Transport, never, R | Scope.Scope>
