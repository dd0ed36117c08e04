// A deployment on this machine: a nats-server where none is given, its ranks and a supervisor as child processes. All of
// them end with the scope, and with this process however it ends.
import { type ChildProcess, spawn } from "node:child_process"
import { join as path } from "node:path"
import { Deferred, Effect, Layer, Schema, Stream, SubscriptionRef } from "effect"
import { type Group, join } from "../fabric/group.ts"
import { Nats } from "../fabric/nats.ts"
import { start as startNatsServer } from "../fabric/natsServer.ts"
import { open, requireMemory, sameVocabulary, wholeShard } from "../model/index.ts"
import type { RankBeat } from "../wire/beat.ts"
import { type Deployment, ENVIRONMENT, type Group as GroupConfig } from "../wire/deployment.ts"

const ROOT = path(import.meta.dirname, "../..")

/** This process is the first owner of the groups that it starts. */
const EPOCH = 1

/** A process has so long to end by itself. */
const GRACE_MILLIS = 5_000

export class ActorEnded extends Schema.TaggedError<ActorEnded>()("ActorEnded", {
  actor: Schema.String,
  how: Schema.String,
  said: Schema.String, // last, on stderr
}) {
  override get message() {
    return this.said === "" ? `${this.actor} ended: ${this.how}` : `${this.actor} ended: ${this.said}`
  }
}

export interface Progress {
  /** What is being done, and how much of it, from 0 to 1, where that is known. */
  readonly report: (doing: string, fraction?: number) => void
}

export interface LocalCluster {
  readonly url: string
  readonly http: string | null // URL of the gateway; null where none was asked for
  readonly pids: {
    readonly natsServer: number | null // null where it is not ours
    readonly gateway: number | null
    readonly supervisor: number
    readonly base: ReadonlyArray<number>
    readonly draft: ReadonlyArray<number>
  }
  /** Fails when a process ends that nobody has told to. */
  readonly failed: Effect.Effect<never, ActorEnded>
}

export interface StartOptions {
  readonly nats: string | null // URL; null starts a server
  readonly progress: Progress
  readonly gateway?: Readonly<Record<string, string>> // its environment; left out: no HTTP
}

/** Everything is ready when this ends. */
export const start = Effect.fnUntraced(function* (deployment: Deployment, { nats, progress, gateway }: StartOptions) {
  progress.report("Looking at the models")
  yield* checkModels(deployment)
  const ended = yield* Deferred.make<never, ActorEnded>()
  const server = nats === null ? yield* ownServer(progress, ended) : null
  const url = server?.url ?? nats ?? ""
  if (server === null) progress.report(`Connecting to ${url}`)
  const fabric = yield* Layer.build(Nats.layer({ url, name: `${deployment.name}.up` }))
  const http = gateway === undefined ? null : yield* startGateway(url, gateway, ended)
  progress.report("Starting the ranks")
  const groups = groupsOf(deployment)
  const members = groups.flatMap((group) => Array.from({ length: group.ranks }, (_, rank) => ({ group, rank })))
  const ranks = yield* actors(
    members.map(({ group, rank }) => ({
      ...{ name: `rank ${rank} of ${group.name}`, file: "rank.ts" },
      environment: {
        ...environmentOf(url, deployment),
        [ENVIRONMENT.group]: group.name,
        [ENVIRONMENT.rank]: `${rank}`,
      },
    })),
    ended,
  )
  const [supervisor] = yield* actors(
    [{ name: "the supervisor", file: "supervisor.ts", environment: environmentOf(url, deployment) }],
    ended,
  )
  const cluster: LocalCluster = {
    url,
    http: http?.url ?? null,
    pids: {
      gateway: http?.pid ?? null,
      natsServer: server?.pid ?? null,
      supervisor: pidOf(supervisor),
      base: ranks.filter((_, i) => members[i]?.group.name === "base").map(pidOf),
      draft: ranks.filter((_, i) => members[i]?.group.name === "draft").map(pidOf),
    },
    failed: Deferred.await(ended),
  }
  const loading = Effect.scoped(reportLoading(deployment, groups, progress)).pipe(Effect.provide(fabric))
  yield* Effect.raceFirst(Effect.raceFirst(readyMessage(supervisor), loading), cluster.failed)
  return cluster
})

/** What is wrong with the models is said before anything runs. */
const checkModels = Effect.fnUntraced(function* ({ base, draft, context }: Deployment) {
  const model = yield* open(base.model, { context })
  // Ranks on one machine map the same files, so each model counts once; KV is that of one session at its longest.
  const free = process.availableMemory()
  const { total } = yield* requireMemory(model, wholeShard(model.shape), context, free)
  if (draft === null) return
  const drafting = yield* open(draft.model, { context })
  yield* sameVocabulary(model, drafting)
  yield* requireMemory(drafting, wholeShard(drafting.shape), context, free - total)
})

const ownServer = Effect.fnUntraced(function* (progress: Progress, ended: Deferred.Deferred<never, ActorEnded>) {
  progress.report("Starting nats-server")
  const server = yield* startNatsServer()
  yield* Effect.forkScoped(
    Effect.flatMap(server.stopped, ({ how, lastLines }) =>
      Deferred.fail(ended, new ActorEnded({ actor: "nats-server", how, said: lastLines.join(" ") })),
    ),
  )
  return server
})

/** First of all, since its port may be taken; what it serves, it finds when it is there. */
const startGateway = Effect.fnUntraced(function* (
  nats: string,
  environment: Readonly<Record<string, string>>,
  ended: Deferred.Deferred<never, ActorEnded>,
) {
  const [child] = yield* actors(
    [{ name: "the gateway", file: "gateway.ts", environment: { ...environment, [ENVIRONMENT.nats]: nats } }],
    ended,
  )
  const url = yield* Effect.raceFirst(listening(child), Deferred.await(ended))
  return { url, pid: pidOf(child) }
})

const Listening = Schema.Struct({ url: Schema.String })

/** A gateway says where it listens. */
const listening = (gateway: ChildProcess | undefined): Effect.Effect<string> =>
  Effect.callback<string>((resume) => {
    gateway?.once("message", (message) => resume(Effect.succeed(Schema.decodeUnknownSync(Listening)(message).url)))
  })

const groupsOf = ({ base, draft }: Deployment): ReadonlyArray<GroupConfig> => (draft === null ? [base] : [base, draft])

const environmentOf = (url: string, deployment: Deployment) => ({
  [ENVIRONMENT.nats]: url,
  [ENVIRONMENT.deployment]: JSON.stringify(deployment),
  [ENVIRONMENT.epoch]: `${EPOCH}`,
})

interface Actor {
  readonly name: string
  readonly file: string // in actors/
  readonly environment: Readonly<Record<string, string>>
}

/** Starts actors together, and ends them together with the scope. */
const actors = (wanted: ReadonlyArray<Actor>, ended: Deferred.Deferred<never, ActorEnded>) =>
  Effect.acquireRelease(
    Effect.sync(() => wanted.map((actor) => spawnActor(actor, ended))),
    (children) => Effect.forEach(children, stop, { concurrency: "unbounded", discard: true }),
  )

const spawnActor = ({ name, file, environment }: Actor, ended: Deferred.Deferred<never, ActorEnded>): ChildProcess => {
  const child = spawn(process.execPath, [path(ROOT, "actors", file)], {
    env: { ...process.env, ...environment },
    stdio: ["ignore", "ignore", "pipe", "ipc"], // the actor ends when the channel does
    detached: true, // a terminal's Ctrl-C is for us: we end them, in order
  })
  let said = ""
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    said = (said + text).slice(-2_000)
  })
  const end = (how: string): void => {
    Deferred.doneUnsafe(ended, Effect.fail(new ActorEnded({ actor: name, how, said: said.trim() })))
  }
  child.once("error", ({ message }) => end(message))
  child.once("close", (code, signal) => {
    if (!stopping.has(child)) end(signal ?? `exit code ${code}`)
  })
  return child
}

const stopping = new WeakSet<ChildProcess>()

const stop = (child: ChildProcess): Effect.Effect<void> =>
  Effect.promise(
    () =>
      new Promise<void>((done) => {
        stopping.add(child)
        if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return done()
        const force = setTimeout(() => child.kill("SIGKILL"), GRACE_MILLIS)
        child.once("exit", () => {
          clearTimeout(force)
          done()
        })
        child.kill("SIGTERM")
      }),
  )

const pidOf = (child: ChildProcess | undefined): number => child?.pid ?? 0

/** A supervisor says when it serves. */
const readyMessage = (supervisor: ChildProcess | undefined): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    supervisor?.once("message", () => resume(Effect.void))
  })

/** Tells how far the ranks are, until interrupted. */
const reportLoading = Effect.fnUntraced(function* (
  { name }: Deployment,
  groups: ReadonlyArray<GroupConfig>,
  progress: Progress,
) {
  const joined = yield* Effect.forEach(groups, (group) => join({ deployment: name, group, epoch: EPOCH }))
  const expected = groups.reduce((sum, { ranks }) => sum + ranks, 0)
  const known = new Map<Group, ReadonlyArray<RankBeat>>()
  const tell = (group: Group, beats: ReadonlyMap<number, RankBeat>): void => {
    known.set(group, [...beats.values()])
    const all = [...known.values()].flat()
    const done = all.reduce((sum, { state, progress }) => sum + (state === "ready" ? 1 : progress), 0)
    progress.report(`Loading the model on ${expected} ranks`, done / expected)
  }
  const watched = joined.map((group) =>
    SubscriptionRef.changes(group.beats).pipe(Stream.runForEach((beats) => Effect.sync(() => tell(group, beats)))),
  )
  return yield* Effect.andThen(Effect.all(watched, { concurrency: "unbounded" }), Effect.never)
})
