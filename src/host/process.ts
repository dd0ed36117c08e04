// The actors of this machine as child processes. Each ends with its scope, and with this process however it ends. A process
// that hangs, stopped or stuck in a call, falls silent and is killed: then it is one that has ended.
import { type ChildProcess, spawn } from "node:child_process"
import { extname, join as path } from "node:path"
import { Deferred, Effect, Result, Schema } from "effect"
import { Silence } from "../bus/silence.ts"
import { ENVIRONMENT, HTTP_ENVIRONMENT } from "../wire/deployment.ts"
import { PULSE_MILLIS, Said } from "./pulse.ts"

const ROOT = path(import.meta.dirname, "../..")

/** Compiled modules are kept, which takes a third off the start of a process. */
const COMPILED = path(ROOT, ".chorus/compiled")

/** A process has so long to end by itself. */
const GRACE_MILLIS = 5_000

/** How much of what it says on stderr is kept. */
const SAID_BYTES = 2_000

/** How long a process that serves may say nothing. Sessions wait for a rank; the others are busy with one another's work at times. */
const RANK_PATIENCE_MILLIS = 1_000
const PATIENCE_MILLIS = 10_000

/** A process starts compiles, and reads vocabularies. */
const START_PATIENCE_MILLIS = 60_000

export class ActorEnded extends Schema.TaggedError<ActorEnded>()("ActorEnded", {
  actor: Schema.String,
  how: Schema.String,
  said: Schema.String, // last, on stderr
}) {
  override get message() {
    return this.said === "" ? `${this.actor} ended: ${this.how}` : `${this.actor} ended: ${this.said}`
  }
}

export interface Actor {
  readonly name: string
  readonly file: string // in actors/
  readonly environment: Readonly<Record<string, string>>
}

export interface ActorProcess {
  readonly name: string
  readonly pid: number // 0 where it could not be started
  /** Ends when the actor says that it serves, with the URL where it listens on a port. */
  readonly ready: Effect.Effect<string | null>
  /** Ends, with what happened, when the process ends without having been told to. */
  readonly ended: Effect.Effect<ActorEnded>
}

/** Starts an actor, which ends with the scope. */
export const startActor = (actor: Actor) =>
  Effect.acquireRelease(
    Effect.sync(() => spawnActor(actor)),
    ({ child }) => stop(child),
  ).pipe(Effect.map(({ process }) => process))

/** Starts an actor, which ends with the scope, and waits until it serves; fails where it ends before. */
export const startServing = Effect.fnUntraced(function* (actor: Actor) {
  const process = yield* startActor(actor)
  const url = yield* Effect.raceFirst(process.ready, Effect.flatMap(process.ended, Effect.fail))
  return { ...process, url }
})

/** Starts actors together, and ends them together with the scope. */
export const startActors = (wanted: ReadonlyArray<Actor>) =>
  Effect.acquireRelease(
    Effect.sync(() => wanted.map(spawnActor)),
    (started) => Effect.forEach(started, ({ child }) => stop(child), { concurrency: "unbounded", discard: true }),
  ).pipe(Effect.map((started) => started.map(({ process }) => process)))

/** Actors with few young objects that live on. */
const SMALL: ReadonlySet<string> = new Set(["gateway.ts", "host.ts"])

/**
 * V8 lets the young objects of a process grow to 48 MiB, most of it while modules load, and keeps that; the old ones it
 * collects late. With these options the young ones keep 3.
 */
export const SMALL_HEAP = ["--max-semi-space-size=1", "--optimize-for-size"] as const

const spawnActor = ({ name, file, environment }: Actor) => {
  const entry = path(ROOT, "actors", file.replace(/\.ts$/, extname(import.meta.filename)))
  const child = spawn(process.execPath, [...(SMALL.has(file) ? SMALL_HEAP : []), entry], {
    env: { NODE_COMPILE_CACHE: COMPILED, ...process.env, ...NOT_INHERITED, ...environment },
    stdio: ["ignore", "ignore", "pipe", "ipc"], // the actor ends when the channel does
    detached: true, // a terminal's Ctrl-C is for us: we end them, in order
  })
  let said = ""
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    said = (said + text).slice(-SAID_BYTES)
  })
  const ended = Deferred.makeUnsafe<ActorEnded>()
  const ready = Deferred.makeUnsafe<string | null>()
  let hung: string | null = null
  const end = (how: string): void => {
    if (stopping.has(child)) return
    const words = hung === null ? { how, said: said.trim() } : { how: hung, said: "" }
    Deferred.doneUnsafe(ended, Effect.succeed(new ActorEnded({ actor: name, ...words })))
  }
  const unwatch = watch(child, file === "rank.ts" ? RANK_PATIENCE_MILLIS : PATIENCE_MILLIS, {
    serving: (url) => Deferred.doneUnsafe(ready, Effect.succeed(url)),
    silent: (millis) => {
      hung = `it hung: killed after ${millis} ms of silence`
      child.kill("SIGKILL")
    },
  })
  child.once("error", ({ message }) => end(message))
  child.once("close", (code, signal) => {
    unwatch()
    end(signal ?? `exit code ${code}`)
  })
  const started: ActorProcess = {
    ...{ name, pid: child.pid ?? 0 },
    ready: Deferred.await(ready),
    ended: Deferred.await(ended),
  }
  return { child, process: started }
}

/** Secrets of this process that an actor has only where it is given them. */
const NOT_INHERITED = {
  [ENVIRONMENT.natsKey]: undefined,
  [ENVIRONMENT.natsKeys]: undefined,
  [HTTP_ENVIRONMENT.keys]: undefined,
  [HTTP_ENVIRONMENT.keysFile]: undefined,
}

interface Heard {
  readonly serving: (url: string | null) => void
  readonly silent: (millis: number) => void
}

/** Hears a child until the function that this gives is called. */
const watch = (child: ChildProcess, patienceMillis: number, { serving, silent }: Heard): (() => void) => {
  const listen = (millis: number) => {
    const silence = new Silence<"child">(
      { everyMillis: PULSE_MILLIS, missed: millis / PULSE_MILLIS },
      performance.now(),
    )
    silence.heard("child")
    return { millis, silence }
  }
  let listening = listen(START_PATIENCE_MILLIS)
  child.on("message", (message) => {
    const said = Schema.decodeUnknownResult(Said)(message)
    if (Result.isFailure(said)) return
    if (said.success._tag === "Serving") {
      listening = listen(patienceMillis)
      serving(said.success.url ?? null)
    }
    listening.silence.heard("child")
  })
  const ticking = setInterval(() => {
    const { millis, silence } = listening
    if (silence.tick(performance.now()).length > 0) silent(millis)
  }, PULSE_MILLIS)
  return () => clearInterval(ticking)
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
