// The product's actors, as they are, in simulated processes: supervisors that take turns as the controller, hosts, and the
// ranks that those start. What is another one here is what a process has of its machine: the bus, the storage, the files of
// models, the device, and how a host starts a process.
import { Context, Deferred, Effect, type Fiber, type Scope } from "effect"
import { Bus } from "../../src/bus/bus.ts"
import { ProcessId } from "../../src/bus/processId.ts"
import { host } from "../../src/host/host.ts"
import { MachineParts } from "../../src/host/machine.ts"
import { ActorEnded } from "../../src/host/process.ts"
import { llama } from "../../src/model/architectures/llama.ts"
import { type Model, ModelUnreadable, OpenModel, Tokenizer } from "../../src/model/index.ts"
import { LoadCompute } from "../../src/rank/device/compute.ts"
import { readEnvironment } from "../../src/rank/environment.ts"
import { rank } from "../../src/rank/rank.ts"
import { StartEncoder } from "../../src/session/encoder.ts"
import { serveAll } from "../../src/session/serveAll.ts"
import { Storage } from "../../src/store/storage.ts"
import { ENVIRONMENT } from "../../src/wire/deployment.ts"
import { END, HashEngine, type ModelShape, VOCABULARY } from "./engine.ts"
import type { Mutation } from "./mutation.ts"
import type { Process } from "./world.ts"

const TOKENIZER = new Tokenizer({
  file: "simulated",
  tokens: Array.from({ length: VOCABULARY }, (_, id) => String.fromCharCode(97 + id)),
  special: new Map([[END, "control"]]),
  ...{ bos: null, prefix: [], suffix: [], eos: END, ends: new Set([END]) },
  definition: () => {
    throw new Error("nothing is encoded here")
  },
})

/** A session has at most so many tokens. */
export const CONTEXT = 400

/** The name under which a model of the hash engine is opened. */
export const pathOf = ({ layers, salt }: ModelShape): string => `/hash/${layers}/${salt}`

const shapeOf = (path: string): ModelShape => {
  const [layers = 1, salt = 0] = path.split("/").slice(2).map(Number)
  return { layers, salt }
}

const openHash = (path: string): Effect.Effect<Model, ModelUnreadable> => {
  if (!path.startsWith("/hash/"))
    return Effect.fail(new ModelUnreadable({ file: path, reason: "it is none of the hash engine's" }))
  const { layers } = shapeOf(path)
  return Effect.succeed({
    ...{ name: path.slice(1), path, format: "gguf", architecture: llama, tensors: [], tokenizer: TOKENIZER },
    shape: {
      ...{
        architecture: "llama",
        layers,
        width: 1,
        heads: 1,
        kvHeads: 1,
        headDim: 64,
        ffn: 1,
        vocab: VOCABULARY,
        context: 4096,
      },
      ...{ normEps: 0, ropeTheta: 1, ropeDim: 64, ropePairs: "halves", ropeFactors: null },
    },
    ...{ chatTemplate: null, context: CONTEXT, bos: null, ends: new Set([END]), bytes: 1, sampling: {}, warnings: [] },
  })
}

/** What a process of the simulated installation is given. */
export interface Surroundings {
  readonly process: Process
  readonly bus: Bus["Service"]
  readonly storage: Storage["Service"]
}

/** Everything that an actor asks for, but a host's machine and a rank's engine. */
const given = ({ process, bus, storage }: Surroundings) =>
  Context.make(Bus, bus).pipe(
    Context.add(Storage, storage),
    Context.add(ProcessId, process.pid),
    Context.add(OpenModel, openHash),
    Context.add(
      StartEncoder,
      Effect.succeed({ warm: () => Effect.void, encode: () => Effect.die(new Error("nothing is encoded here")) }),
    ),
  )

/** Runs until it is interrupted; then it drains, and `ended` is called. */
const launch = (process: Process, actor: Effect.Effect<unknown, unknown, Scope.Scope>): Fiber.Fiber<unknown, unknown> =>
  process.fork(Effect.scoped(Effect.andThen(actor, Effect.never)))

export const startSupervisor = (here: Surroundings): Fiber.Fiber<unknown, unknown> =>
  launch(here.process, Effect.provideContext(serveAll, given(here)))

/** A rank that runs, for those who look after it from outside. */
export interface RankActor {
  readonly process: Process
  engine: HashEngine | null // once its shard is loaded
  readonly kill: () => void // as by a signal
}

export interface HostOptions extends Surroundings {
  readonly name: string
  /** A new process beside the host's own, with what it has of the world. */
  readonly spawn: (name: string) => Surroundings
  readonly computeMillis: () => number
  readonly mutation: Mutation | null
  readonly started: (rank: RankActor) => void
}

const PLENTY = 2 ** 40

export const startHost = (options: HostOptions): Fiber.Fiber<unknown, unknown> => {
  const { name, computeMillis, mutation } = options
  const device = { name: "CPU", kind: "cpu", description: "", memoryFree: PLENTY, memoryTotal: PLENTY } as const
  const machine: MachineParts = {
    devices: Effect.succeed(() => [device]),
    memory: () => ({ total: PLENTY, available: PLENTY }),
    cores: () => 16,
    lookAt: (path) => Effect.succeed({ path, bytes: 1, error: "" }),
    start: ({ name: called, environment }) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const here = options.spawn(`${called} on ${name}`)
          const { process } = here
          const ended = Deferred.makeUnsafe<ActorEnded>()
          const standby = environment[ENVIRONMENT.standby] !== undefined
          const told = readEnvironment({ ...environment, [ENVIRONMENT.device]: "auto" })
          if (told._tag === "Failure") throw new Error(told.failure.message)
          const { url: _, ...of } = told.success
          const kill = (): void => {
            if (!process.alive) return
            process.kill()
            options.process.after(0, () =>
              Deferred.doneUnsafe(ended, Effect.succeed(new ActorEnded({ actor: called, how: "SIGKILL", said: "" }))),
            )
          }
          const actor: RankActor = { process, engine: null, kill }
          const serving = rank(of).pipe(
            Effect.provideContext(
              Context.add(given(here), LoadCompute, ({ model }) =>
                Effect.sync(() => {
                  actor.engine = new HashEngine(shapeOf(model.path), computeMillis, mutation, standby)
                  return actor.engine.compute
                }),
              ),
            ),
          )
          const fiber = launch(process, serving)
          options.started(actor)
          return { process, fiber, child: { pid: process.pid, ended: Deferred.await(ended) } }
        }),
        ({ process, fiber }) =>
          Effect.callback<void>((resume) => {
            const gone = (): void => {
              process.kill()
              resume(Effect.void)
            }
            if (!process.alive) return gone()
            process.after(0, () => fiber.interruptUnsafe())
            fiber.addObserver(() => options.process.after(0, gone))
            options.process.after(GRACE_MILLIS, gone)
          }),
      ).pipe(Effect.map(({ child }) => child)),
  }
  const access = { key: null, ca: null }
  return launch(
    options.process,
    host({ url: "simulated", access, name, cores: null, memory: null, drainMillis: 0 }).pipe(
      Effect.provideContext(Context.add(given(options), MachineParts, machine)),
    ),
  )
}

/** A process that was told to end has so long. */
const GRACE_MILLIS = 5_000
