// The ranks of a group, as one of them sees the others: an exchange for each pass, in which hidden states are handed on,
// broadcast, or gathered, over whatever transport carries messages between them. A lost one fails the pass, which is then
// repeated.
import { Context, Effect, Layer, Result, Schema } from "effect"
import type { Hop } from "../speculation/indices.ts"
import { type Activation, decode, encode, HEADER_BYTES } from "../wire/activation.ts"
import { type MalformedMessage, PeerSilent } from "../wire/errors.ts"
import { decode as decodePart, isPart, PART_HEADER_BYTES, partsOf, split } from "../wire/part.ts"
import { Inbox, passKey } from "./inbox.ts"
import { overBus } from "./transport/bus.ts"
import type { OpenTransport, Transport } from "./transport/transport.ts"

/** How long a rank waits for one activation of a peer. Generous: a rank that dies is noticed by its beats. */
const EXCHANGE_MILLIS = 10_000

const INBOX = { earlyBytes: 256 * 2 ** 20, endedPasses: 1024 }

/** A newer command of the session has come, or it was given up: nothing waits for this answer. */
export class Superseded extends Schema.TaggedError<Superseded>()("Superseded", { pass: Schema.Int }) {}

export type ExchangeError = PeerSilent | Superseded

export interface PeersOptions {
  readonly deployment: string
  readonly group: string
  readonly rank: number
  readonly epoch: number
}

/** What is sent: `blocks` arrays of tokens x width, f32, one after the other, and the rows of a draft step. */
export interface Payload {
  readonly tokens: number
  readonly width: number
  readonly blocks: ReadonlyArray<Uint8Array>
  readonly nodes: Uint8Array
}

export const NO_NODES = new Uint8Array(0)

/** Messages and their payload bytes, of all ranks, as far as they led to what this rank knows. */
export interface Traffic {
  readonly hops: number
  readonly messages: number
  readonly bytes: number
}

export class Peers extends Context.Service<
  Peers,
  {
    /** Opens the exchange of one attempt at a pass. It must be closed. */
    readonly exchange: (pass: number, attempt: number) => Exchange
  }
>()("chorus/group/Peers") {
  static layer(options: PeersOptions) {
    return Layer.effect(this, peersOver(options, overBus(options)))
  }
}

const peersOver = Effect.fnUntraced(function* <R>(options: PeersOptions, open: OpenTransport<R>) {
  const runFork = Effect.runForkWith(yield* Effect.context())
  const inbox = new Inbox(INBOX)
  const transport = yield* open({
    received: receiver(inbox, options.epoch, ({ message }) => void runFork(Effect.logWarning(message))),
    broken: () => inbox.closeAll(), // what was on the way is lost: no use in waiting
  })
  return Peers.of({ exchange: (pass, attempt) => new Exchange({ ...options, pass, attempt }, inbox, transport) })
})

/** What comes in: parts are put together, other epochs are dropped, and the rest waits in the inbox. */
export const receiver = (inbox: Inbox, epoch: number, malformed: (failure: MalformedMessage) => void) => {
  const received = (message: Uint8Array): void => {
    if (isPart(message)) {
      const part = decodePart(message)
      if (Result.isFailure(part)) return malformed(part.failure)
      if (part.success.epoch !== epoch) return
      const whole = inbox.deliverPart(part.success)
      return whole === undefined ? undefined : received(whole)
    }
    const activation = decode(message)
    if (Result.isFailure(activation)) return malformed(activation.failure)
    if (activation.success.epoch === epoch) inbox.deliver(activation.success)
  }
  return received
}

/**
 * One attempt at a pass. Every exchange has its number, `hop`, counted from 1 along the critical path and the same on all
 * ranks, so early, late and doubled activations find their place. What a message adds to the pass's traffic travels in its
 * header.
 */
export class Exchange {
  readonly #of: PeersOptions & { readonly pass: number; readonly attempt: number }
  readonly #inbox: Inbox
  readonly #transport: Transport
  #closed = false
  #hops = 0
  #known = { messages: 0, bytes: 0 } // what all ranks of the exchange knew after the last one
  #total = { messages: 0, bytes: 0 }

  constructor(
    of: PeersOptions & { readonly pass: number; readonly attempt: number },
    inbox: Inbox,
    transport: Transport,
  ) {
    this.#of = of
    this.#inbox = inbox
    this.#transport = transport
    inbox.open(passKey(of))
  }

  get traffic(): Traffic {
    return { hops: this.#hops, ...this.#total }
  }

  /** Counts the hops of a finished stretch of exchanges: the next one begins at 1 again. */
  advance(hops: number): void {
    this.#hops += hops
  }

  /** Hands an activation on to one rank, or to all others at once. One hop, one message. */
  send(hop: Hop, to: number | "all", payload: Payload): Effect.Effect<void> {
    return Effect.sync(() => {
      this.#post(hop, to, payload)
      this.#known = this.#total
    })
  }

  /** What `from` hands on. */
  receive(hop: Hop, from: number): Effect.Effect<Activation, ExchangeError> {
    return Effect.map(this.#take(hop, from), (activation) => {
      this.#total = this.#known = { messages: activation.messages, bytes: activation.bytes }
      return activation
    })
  }

  /**
   * All-gather: the ranks that have something send it to all, or to the one that needs it; then everyone takes what the
   * others sent. One hop. `own` is null for a rank that only listens, `from` empty for one that only speaks.
   */
  gather(
    hop: Hop,
    own: Payload | null,
    to: number | "all",
    from: ReadonlyArray<number>,
  ): Effect.Effect<ReadonlyArray<Activation>, ExchangeError> {
    return Effect.suspend(() => {
      if (own !== null) this.#post(hop, to, own) // before the first wait: a peer may be ahead of us
      const blocks = Effect.forEach(from, (peer) => this.#take(hop, peer), { concurrency: "unbounded" })
      return Effect.map(blocks, (activations) => {
        for (const { messages, bytes } of activations) {
          this.#total = {
            messages: this.#total.messages + messages - this.#known.messages,
            bytes: this.#total.bytes + bytes - this.#known.bytes,
          }
        }
        this.#known = this.#total
        return activations
      })
    })
  }

  /** Ends the exchange; a fibre that waits in it fails with Superseded. */
  close(): void {
    this.#closed = true
    this.#inbox.close(passKey(this.#of))
  }

  #post(hop: Hop, to: number | "all", payload: Payload): void {
    const { epoch, pass, attempt, rank } = this.#of
    const step = this.#hops + hop
    const values = payload.blocks.length === 1 ? payload.blocks[0] : undefined
    const size = payload.blocks.reduce(
      (sum, { byteLength }) => sum + byteLength,
      HEADER_BYTES + payload.nodes.byteLength,
    )
    const maxPayload = this.#transport.maxPayload()
    const parts = partsOf(size, maxPayload)
    this.#total = {
      messages: this.#total.messages + parts,
      bytes: this.#total.bytes + size + (parts > 1 ? parts * PART_HEADER_BYTES : 0),
    }
    const message = encode({
      ...{ epoch, pass, attempt, step, rank },
      ...{ blocks: payload.blocks.length, tokens: payload.tokens, width: payload.width },
      ...this.#total,
      nodes: payload.nodes,
      values: values ?? Buffer.concat(payload.blocks),
    })
    const of = { epoch, pass, attempt, step, rank }
    if (parts === 1) this.#transport.send(to, message)
    else for (const part of split(of, [message], maxPayload)) this.#transport.send(to, part)
  }

  #take(hop: Hop, peer: number): Effect.Effect<Activation, ExchangeError> {
    const key = passKey(this.#of)
    const step = this.#hops + hop
    return Effect.suspend(() => {
      const early = this.#inbox.take(key, step, peer)
      return early === undefined ? this.#wait(step, peer) : Effect.succeed(early)
    })
  }

  #wait(step: number, peer: number): Effect.Effect<Activation, ExchangeError> {
    const key = passKey(this.#of)
    const { group, rank, pass } = this.#of
    const silent = () => new PeerSilent({ group, rank, peer, step }) // made when it is needed: it takes a while
    return Effect.callback<Activation, ExchangeError>((resume) => {
      this.#inbox.wait(key, step, peer, (activation) => {
        if (activation !== null) return resume(Effect.succeed(activation))
        resume(Effect.fail(this.#closed ? new Superseded({ pass }) : silent())) // closed by us, or with the connection
      })
      return Effect.sync(() => this.#inbox.forget(key, step, peer))
    }).pipe(
      Effect.timeoutOrElse({
        duration: EXCHANGE_MILLIS,
        orElse: () => Effect.fail(silent()),
      }),
    )
  }
}
