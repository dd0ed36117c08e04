// A simulated supervisor: the product's durable engine and its workflow Generate, on simulated stores and ranks.
import { Context, Effect, Exit, Layer, Semaphore } from "effect"
import { WorkflowEngine } from "effect/workflow"
import { changes } from "../../src/bus/changes.ts"
import { Traces } from "../../src/bus/traces.ts"
import { layerOn } from "../../src/durable/engine.ts"
import { Ownership } from "../../src/durable/ownership.ts"
import { Presence } from "../../src/durable/presence.ts"
import { Generate, generate } from "../../src/generation/generate.ts"
import { type GenerateRequest, kvOf } from "../../src/generation/request.ts"
import { Admitted, Cancellation, SessionPlace } from "../../src/generation/services.ts"
import type { Tokenizer } from "../../src/model/index.ts"
import { abort } from "../../src/replica/link.ts"
import { chooseReplica } from "../../src/replica/routing.ts"
import type { Limits } from "../../src/session/admission.ts"
import { type AdmissionQueue, admissionQueue } from "../../src/session/admissionQueue.ts"
import { Lifetimes } from "../../src/session/lifetime.ts"
import { TokenLog } from "../../src/store/tokenLog.ts"
import type { LogEntry } from "../../src/wire/infer.ts"
import type { PassAnswer, PassCommand } from "../../src/wire/pass.ts"
import type { Draining } from "./draining.ts"
import { type LogServer, logOf } from "./log.ts"
import type { Mutation } from "./mutation.ts"
import type { Network } from "./network.ts"
import type { GroupShape, RankActor } from "./rank.ts"
import { type Present, presenceOf, type RecordServer, storeOf } from "./records.ts"
import { type ReplicaShape, SimulatedLink } from "./replica.ts"
import type { Process } from "./world.ts"

export interface SupervisorOptions {
  readonly process: Process
  readonly network: Network
  readonly log: LogServer
  readonly records: RecordServer
  readonly tokenizer: Tokenizer
  readonly replicas: ReadonlyArray<ReplicaShape>
  readonly ranks: (shape: GroupShape) => ReadonlyArray<RankActor>
  readonly others: () => ReadonlyArray<Present>
  readonly diskMillis: () => number
  readonly answered: (command: PassCommand, answer: PassAnswer) => void
  readonly mutation: Mutation | null
  readonly limits: Limits
  readonly keepMillis: number
  readonly kvTokens: number // that a replica has memory for
  readonly draining: Draining
}

export interface Supervisor extends Present {
  readonly accept: (request: GenerateRequest, told: () => void) => void
  readonly cancel: (session: string) => void
  readonly beat: (rank: RankActor, connections: number) => void
  readonly sessionsOn: (replica: number) => number
  /** Hands its sessions over to the first that claims them. */
  readonly drain: (drained: () => void) => void
}

export const startSupervisor = (options: SupervisorOptions): Supervisor => {
  const { process, network, tokenizer } = options
  const { diskMillis, mutation, draining } = options
  const log = logOf({ process, network, server: options.log, diskMillis, mutation })
  const { tell: changed, next: nextChange } = changes()
  const links = options.replicas.map(
    (replica) =>
      new SimulatedLink({
        ...{ process, network, replica, tokenizer, changed },
        ...{ ranks: options.ranks, answered: options.answered, mutation, keepMillis: options.keepMillis },
      }),
  )
  draining.follow(process, (epochs) => {
    for (const link of links) link.draining = epochs.has(link.epoch)
    changed()
  })
  let heard: Present["heard"] = () => {}
  let begin: (request: GenerateRequest, told: () => void) => unknown = () => undefined

  const choose = (request: GenerateRequest, own: SimulatedLink | null) =>
    chooseReplica(links, { ...wishOf(request), own, current: true }, () => options.kvTokens)

  const claim = (request: GenerateRequest, own: SimulatedLink | null) => {
    const { prompt, tokens } = wishOf(request)
    return Effect.acquireRelease(
      Effect.suspend(() => {
        const link = choose(request, own)
        const models = link?.models ?? null
        if (link === undefined || models === null) return Effect.succeed(null)
        link.sessions++
        link.reserved += tokens
        return Effect.as(models.prefixes.fit(options.kvTokens - link.reserved, prompt), { link, models })
      }),
      (claimed) =>
        Effect.sync(() => {
          if (claimed === null) return
          claimed.link.sessions--
          claimed.link.reserved -= tokens
          changed()
        }),
    )
  }

  /** The way of the product's replica sets. */
  const takeOf = ({ begin }: Admitted["Service"], request: GenerateRequest): SessionPlace["Service"]["take"] => {
    let own: SimulatedLink | null = null
    return Effect.gen(function* () {
      yield* begin
      for (;;) {
        const claimed = yield* claim(request, own)
        if (claimed !== null) {
          const { link, models } = claimed
          own = link
          const leaves = () => link.draining && choose(request, null)?.draining === false
          return { models, coldStart: null, leaves }
        }
        yield* nextChange
      }
    })
  }

  const suspects = Semaphore.makeUnsafe(1)
  const placeOf = (admitted: Admitted["Service"], request: GenerateRequest) =>
    SessionPlace.of({ tokenizer, suspects, take: takeOf(admitted, request) })

  const lifetimes = new Lifetimes(
    () => network.isUp(process),
    (millis, fire) => {
      let closed = false
      process.after(millis, () => (closed ? undefined : fire()))
      return {
        close: () => {
          closed = true
        },
        refresh: () => {}, // no reader here has to say that it reads
      }
    },
  )

  /** What former owners have left on any replica. */
  const freeFormer = Effect.fnUntraced(function* ({ session }: GenerateRequest) {
    const { epoch } = yield* Ownership
    for (let former = 1; former < epoch; former++) {
      for (const { models } of links) {
        if (models !== null) yield* abort(models, kvOf(session, former))
      }
    }
  })

  const begun = new Map<string, Admitted["Service"]>()
  const askingOf = ({ session, client, prompt, maxTokens }: GenerateRequest) => ({
    ...{ session, client, prompt: prompt.length, maxTokens },
  })

  const runOn = (admission: AdmissionQueue) =>
    Effect.fnUntraced(function* (request: GenerateRequest) {
      const { session } = request
      process.world.note(() => `${process.name} runs ${session}`)
      let admitted = begun.get(session)
      begun.delete(session)
      if (admitted === undefined) {
        yield* freeFormer(request)
        const age = log.age(session).pipe(Effect.catch(() => Effect.succeed(0)))
        lifetimes.open(session, request, request.deadlineMillis === null ? 0 : yield* age)
        admitted = yield* admission.takeOver(askingOf(request))
      }
      return yield* generate(request).pipe(
        Effect.provideService(Cancellation, lifetimes),
        Effect.provideService(Admitted, admitted),
        Effect.provideService(SessionPlace, placeOf(admitted, request)),
        Effect.provideService(TokenLog, log),
        Effect.provideService(Traces, { publish: () => Effect.void }),
        Effect.ensuring(
          Effect.andThen(
            Effect.sync(() => lifetimes.close(session)),
            admission.end(session),
          ),
        ),
        Effect.onExit((exit) =>
          Effect.sync(() => {
            if (Exit.hasDies(exit)) process.world.defects.push(`${session} on ${process.name}: ${exit}`)
            process.world.note(
              () => `${process.name} leaves ${session}: ${Exit.isSuccess(exit) ? exit.value.finishReason : "gives up"}`,
            )
          }),
        ),
      )
    })

  const serving = Effect.gen(function* () {
    const present = yield* presenceOf({
      process,
      network,
      id: `${process.name}.${process.pid}`,
      others: options.others,
    })
    heard = present.heard
    const admission = yield* admissionQueue({
      deployment: "simulated",
      limits: options.limits,
    })
    const store = storeOf({ process, network, server: options.records, diskMillis, mutation })
    const engine = yield* Layer.build(
      Generate.toLayer(runOn(admission)).pipe(
        Layer.provideMerge(layerOn(store)),
        Layer.provide(Layer.succeed(Presence, present.presence)),
      ),
    )
    const accept = Effect.fnUntraced(function* (request: GenerateRequest) {
      const { session, prompt, sampling } = request
      const admitted = yield* admission.ask(askingOf(request))
      const beginning: LogEntry = {
        ...{ _tag: "Begin", epoch: 1, at: 0, promptTokens: prompt.length, seed: sampling.seed },
      }
      const after = yield* Effect.onExit(log.append(session, beginning, 0), (exit) =>
        exit._tag === "Failure" ? admission.end(session) : Effect.void,
      )
      lifetimes.open(session, request, 0)
      begun.set(session, admitted)
      // Not by Generate.execute, whose hash of the session's name is made asynchronously.
      yield* Context.get(engine, WorkflowEngine.WorkflowEngine).execute(Generate, {
        ...{ executionId: session, payload: { ...request, after }, discard: true },
      })
    })
    begin = (request, told) =>
      process.fork(accept(request), (exit) => {
        if (exit._tag === "Success") told()
      })
    return yield* Effect.never
  })
  const service = process.fork(Effect.scoped(serving))
  return {
    process,
    accept: (request, told) => void begin(request, told),
    cancel: (session) => lifetimes.cancel(session),
    beat: (rank, connections) => links.find(({ epoch }) => epoch === rank.shape.replica)?.beat(rank, connections),
    heard: (owner) => heard(owner),
    sessionsOn: (replica) => links.find(({ epoch }) => epoch === replica)?.sessions ?? 0,
    drain: (drained) => {
      service.addObserver(drained)
      service.interruptUnsafe()
    },
  }
}

const wishOf = ({ prompt, maxTokens }: GenerateRequest) => ({ prompt, tokens: prompt.length + maxTokens })
