// Runs the decisions of admission.ts for one deployment: a session gets a place or is refused at once, and begins when there
// is memory.
import { Deferred, Effect } from "effect"
import type { Admitted, Progress } from "../generation/services.ts"
import { ClientLimited, ContextExceeded, Overloaded } from "../wire/errors.ts"
import { type AdmissionAction, type AdmissionEvent, decide, empty, type Limits, reservedTokens } from "./admission.ts"

export interface AdmissionQueueOptions {
  readonly deployment: string
  readonly limits: Limits
}

export interface AdmissionRequest {
  readonly session: string
  readonly client: string | null
  readonly prompt: number // tokens
  readonly maxTokens: number
}

/** What is known of the sessions of one deployment here. */
export interface Census {
  readonly sessions: number // that run
  readonly waiting: number
  readonly kvTokensReserved: number // by those that run
  readonly kvTokensTotal: number
  readonly requests: number // all of them, refused ones too
  readonly refused: number
  readonly progress: Progress // of all sessions together
}

export interface AdmissionQueue {
  /** A place for the session until `end`, or why there is none. */
  readonly ask: (
    asked: AdmissionRequest,
  ) => Effect.Effect<Admitted["Service"], Overloaded | ClientLimited | ContextExceeded>
  /** A place for a session that another supervisor has accepted: nothing refuses it. */
  readonly takeOver: (asked: AdmissionRequest) => Effect.Effect<Admitted["Service"]>
  /** Its place is free, whether it has begun or not. */
  readonly end: (session: string) => Effect.Effect<void>
  readonly limit: (limits: Limits) => Effect.Effect<void>
  readonly census: () => Census
}

const monotonic = Effect.sync(() => performance.now())

export const admissionQueue = Effect.fnUntraced(function* ({ deployment, limits }: AdmissionQueueOptions) {
  let state = empty(limits)
  const begins = new Map<string, Deferred.Deferred<void>>()
  const counted = { requests: 0, refused: 0, tokens: 0, drafted: 0, accepted: 0, iterations: 0 }

  const happen = (event: AdmissionEvent): Effect.Effect<ReadonlyArray<AdmissionAction>> =>
    Effect.suspend(() => {
      const [next, actions] = decide(state, event)
      state = next
      return Effect.as(Effect.forEach(actions, act, { discard: true }), actions)
    })

  const act = (action: AdmissionAction): Effect.Effect<void> => {
    const begin = action._tag === "Begin" ? begins.get(action.session) : undefined
    return begin === undefined ? Effect.void : Effect.asVoid(Deferred.succeed(begin, undefined))
  }

  const refusal = (action: AdmissionAction, { prompt, maxTokens }: AdmissionRequest) => {
    switch (action._tag) {
      case "TooLarge":
        return new ContextExceeded({ prompt, maxTokens, context: state.limits.kvTokens })
      case "Overloaded":
        return new Overloaded({ deployment, waiting: action.waiting, retryAfterMillis: action.retryAfterMillis })
      case "ClientLimited":
        return new ClientLimited(action)
      default:
        return null
    }
  }

  const ask = Effect.fnUntraced(function* (asked: AdmissionRequest) {
    const { session } = asked
    counted.requests += 1
    const begin = yield* Deferred.make<void>()
    begins.set(session, begin)
    const actions = yield* happen({ _tag: "Asked", asking: askingOf(asked) })
    const refused = actions.map((action) => refusal(action, asked)).find((error) => error !== null)
    if (refused !== undefined) {
      begins.delete(session)
      counted.refused += 1
      return yield* Effect.fail(refused)
    }
    return admitted(Deferred.await(begin))
  })

  const takeOver = Effect.fnUntraced(function* (asked: AdmissionRequest) {
    const begin = yield* Deferred.make<void>()
    begins.set(asked.session, begin)
    yield* happen({ _tag: "TakenOver", asking: askingOf(asked) })
    return admitted(Deferred.await(begin))
  })

  const admitted = (begin: Effect.Effect<void>): Admitted["Service"] => ({
    begin,
    running: () => state.running.size,
    progressed: ({ tokens, drafted, accepted, iterations }) => {
      counted.tokens += tokens
      counted.drafted += drafted
      counted.accepted += accepted
      counted.iterations += iterations
    },
  })

  const end = (session: string) =>
    Effect.flatMap(monotonic, (now) => {
      begins.delete(session)
      return Effect.asVoid(happen({ _tag: "Ended", session, now }))
    })

  const service: AdmissionQueue = {
    ask,
    takeOver,
    end,
    limit: (limits) => Effect.asVoid(happen({ _tag: "Limited", limits })),
    census: () => {
      const { requests, refused, ...progress } = counted
      return {
        ...{ sessions: state.running.size, waiting: state.waiting.length, requests, refused, progress },
        ...{ kvTokensReserved: reservedTokens(state), kvTokensTotal: state.limits.kvTokens },
      }
    },
  }
  return service
})

const askingOf = ({ session, client, prompt, maxTokens }: AdmissionRequest) => ({
  session,
  client,
  tokens: prompt + maxTokens,
})
