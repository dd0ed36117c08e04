// How the actors of an installation speak to one another: on subjects, which anyone may listen to. Nothing is stored. A
// message without a listener, or that is on its way when a connection breaks, is gone without an error; so code that waits
// for an answer watches `connected`, and repeats by number. nats.ts is the bus over NATS, and the simulator has its own
// (test/simulation/network.ts), on which it runs the actors as they are.
import { Context, Effect, type PubSub, Schedule, Schema, type Scope, type SubscriptionRef } from "effect"

/** As it came. Its bytes are a view of more: copy them to keep them. */
export interface Message {
  readonly subject: string
  readonly data: Uint8Array
  readonly reply?: string | undefined // the subject on which an answer is waited for
  readonly headers?: Headers | undefined
}

/** The headers of a message; the services protocol's own package has a type of its own for them. */
export interface Headers {
  readonly get: (name: string) => string
}

export interface SubscribeOptions {
  readonly queue?: string // listeners of one name share the messages: each gets some of them
  readonly drains?: boolean // what the server has delivered when the scope closes is still heard
}

export interface RequestOptions {
  readonly withinMillis: number
  readonly headers?: Readonly<Record<string, string>> | undefined
}

/** There was no answer: the subject has no listener, what came in time was not one, or the server takes no such question. */
export class Unanswered extends Schema.TaggedError<Unanswered>()("Unanswered", {
  subject: Schema.String,
  reason: Schema.Literals(["nobody listens", "timeout", "closed", "too large"]),
}) {
  override get message() {
    return `${this.subject} is not answered: ${this.reason}`
  }
}

/** What a service answers. `refused` is for its statistics: a caller finds it in the reply's headers, and the error in the bytes. */
export interface Reply {
  readonly bytes: Uint8Array
  readonly refused?: { readonly code: number; readonly reason: string }
}

/** An entry in the services protocol, by which `nats micro ls` and `chorus ps` find actors. */
export interface ServiceEntry {
  readonly name: string
  readonly description: string
  readonly metadata: Readonly<Record<string, string>>
  readonly endpoint: string
  readonly endpointMetadata?: Readonly<Record<string, string>>
  readonly subject: string // of the endpoint
  readonly queue: string // of those that share the work; empty where each actor answers for itself
  /** Answers requests that wait at an inbox; null where another actor answers. `replyTo` is the subject that waits for it. */
  readonly answer: (message: Uint8Array, headers: Headers | undefined, replyTo: string) => Effect.Effect<Reply | null>
}

export class Bus extends Context.Service<
  Bus,
  {
    /** Says it, and whether it arrives is not known. An answer is waited for on `reply`. */
    readonly publish: (subject: string, data?: Uint8Array, reply?: string) => void
    /** Answers a message; nothing is said where no answer is waited for. */
    readonly respond: (to: Message, data?: Uint8Array) => void
    /** Listens until the scope closes. The subject may have wildcards. */
    readonly subscribe: (
      subject: string,
      heard: (message: Message) => void,
      options?: SubscribeOptions,
    ) => Effect.Effect<void, never, Scope.Scope>
    /** The first answer. */
    readonly request: (subject: string, data: Uint8Array, options: RequestOptions) => Effect.Effect<Message, Unanswered>
    /** Answers as a service, which can be found, until the scope closes. */
    readonly register: (entry: ServiceEntry) => Effect.Effect<void, never, Scope.Scope>
    /** Ends when the server has all that was said before. Fails where the connection was lost meanwhile, and with it some of that. */
    readonly flush: Effect.Effect<void, Unanswered>
    /** A new subject, to which an answer can be sent and no other user may listen. */
    readonly inbox: () => string
    /** Whether the connection stands now, and each change of that. */
    readonly connected: SubscriptionRef.SubscriptionRef<boolean>
    /** One element each time the connection is lost. */
    readonly disconnects: PubSub.PubSub<void>
    /** Bytes of the largest message. */
    readonly maxPayload: () => number
  }
>()("chorus/bus/Bus") {}

const AGAIN = { schedule: Schedule.spaced("100 millis") }

/** For messages that have no answer and must arrive: published until the server has them. */
export const insist = ({ publish, flush }: Bus["Service"], subject: string, data: Uint8Array): Effect.Effect<void> =>
  Effect.ignore(
    Effect.retry(
      Effect.suspend(() => {
        publish(subject, data)
        return flush
      }),
      AGAIN,
    ),
  )

/** Ends when the server knows the subscriptions: a process that is told of them from now on is heard. */
export const settled = ({ flush }: Bus["Service"]): Effect.Effect<void> => Effect.ignore(Effect.retry(flush, AGAIN))

/** Says how things stand, every so often, until the scope closes. Gives what says it at once. */
export const beating = Effect.fnUntraced(function* (everyMillis: number, say: () => void) {
  const beat = Effect.sync(say)
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(beat, Effect.sleep(everyMillis))))
  return beat
})
