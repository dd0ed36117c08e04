// The real nats-server as a child of this process, where none is running: on a free port of this machine, with nats.conf, in
// a folder of its own. It never outlives its parent. `stopped` says when it stops; another one started in its place is given
// its port and folder.
import { type ChildProcess, execFile, spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { mkdir, mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { promisify } from "node:util"
import { Context, Deferred, Effect, Layer, Schema, type Scope } from "effect"

const ROOT = join(import.meta.dirname, "../..")
const MINIMUM = [2, 12, 2] as const // older ones lost streams when the process crashed
const HOW_TO_GET =
  "`npm run setup` brings one; or put 2.12.2 or newer on PATH (`brew install nats-server`, " +
  "`go install github.com/nats-io/nats-server/v2@v2.15.1`), or name it in CHORUS_NATS_SERVER."

export class NatsServerMissing extends Schema.TaggedError<NatsServerMissing>()("NatsServerMissing", {
  looked: Schema.Array(Schema.String),
}) {
  override get message() {
    return `no nats-server in ${this.looked.join(", ")}. ${HOW_TO_GET}`
  }
}

export class NatsServerTooOld extends Schema.TaggedError<NatsServerTooOld>()("NatsServerTooOld", {
  path: Schema.String,
  version: Schema.String,
}) {
  override get message() {
    return `${this.path} is nats-server ${this.version}; before 2.12.2 a crash could lose accepted tokens. ${HOW_TO_GET}`
  }
}

export class NatsServerFailed extends Schema.TaggedError<NatsServerFailed>()("NatsServerFailed", {
  path: Schema.String,
  reason: Schema.String,
  lastLines: Schema.Array(Schema.String),
}) {
  override get message() {
    return [`${this.path} did not start: ${this.reason}`, ...this.lastLines].join("\n  ")
  }
}

/** The server ended without having been told to. */
export class NatsServerStopped extends Schema.TaggedError<NatsServerStopped>()("NatsServerStopped", {
  url: Schema.String,
  how: Schema.String,
  lastLines: Schema.Array(Schema.String),
}) {
  override get message() {
    return [`the nats-server at ${this.url} stopped: ${this.how}`, ...this.lastLines].join("\n  ")
  }
}

export interface NatsServerOptions {
  readonly port?: number // a free one by default
  readonly folder?: string // for its store, kept; by default a temporary one that goes with the server
  readonly orphan?: "kept" | "removed" // what becomes of that folder when this process is killed; kept
  readonly config?: string // path of a configuration; nats.conf by default
  readonly args?: ReadonlyArray<string> // what else its command line says
}

export interface RunningServer {
  readonly url: string
  readonly pid: number
  readonly path: string // of the program
  readonly version: string
  readonly folder: string // that its store lies in
  /** Ends, with what happened, when the server does so by itself. */
  readonly stopped: Effect.Effect<NatsServerStopped>
}

export class NatsServer extends Context.Service<NatsServer, RunningServer>()("chorus/natsServer/NatsServer") {
  static layer(options: NatsServerOptions = {}) {
    return Layer.effect(this, start(options))
  }
}

export const start = Effect.fn("NatsServer.start")(function* (
  options: NatsServerOptions = {},
): Effect.fn.Return<RunningServer, NatsServerMissing | NatsServerTooOld | NatsServerFailed, Scope.Scope> {
  const { path, version } = yield* findNatsServer
  const own = yield* Effect.acquireRelease(
    Effect.promise(() => spawnGuarded(path, options)),
    (own) => Effect.promise(() => stop(own)),
  )
  const ready = yield* Effect.tryPromise({
    try: () => own.ready,
    catch: (error) => new NatsServerFailed({ path, reason: String(error), lastLines: own.lastLines }),
  }).pipe(
    Effect.timeoutOrElse({
      duration: "60 seconds", // a large store is read first
      orElse: () => Effect.fail(new NatsServerFailed({ path, reason: "not ready in 60 s", lastLines: own.lastLines })),
    }),
  )
  const url = `nats://127.0.0.1:${ready.port}`
  const stopped = yield* Deferred.make<NatsServerStopped>()
  own.guard.once("exit", async (code) => {
    if (own.stopping) return
    await withoutGuard(own)
    const how = code === null ? "its guard was killed" : code > 128 ? `signal ${code - 128}` : `exit code ${code}`
    Deferred.doneUnsafe(stopped, Effect.succeed(new NatsServerStopped({ url, how, lastLines: own.lastLines })))
  })
  return { url, pid: ready.pid, path, version, folder: own.folder, stopped: Deferred.await(stopped) }
})

/** The first nats-server that is new enough: CHORUS_NATS_SERVER alone if it is set, else PATH's, else the set-up's. */
export const findNatsServer: Effect.Effect<
  { readonly path: string; readonly version: string },
  NatsServerMissing | NatsServerTooOld
> = Effect.gen(function* () {
  const named = process.env.CHORUS_NATS_SERVER
  const folders = [
    ...(process.env.PATH ?? "").split(delimiter).filter((folder) => folder !== ""),
    join(ROOT, ".chorus/bin"),
  ]
  const candidates = named ? [named] : folders.map((folder) => join(folder, "nats-server"))
  let tooOld: NatsServerTooOld | undefined
  for (const path of candidates.filter((path) => existsSync(path))) {
    const version = yield* versionOf(path)
    if (version === undefined) continue // not a nats-server, or one for another machine
    if (isAtLeast(version, MINIMUM)) return { path, version }
    tooOld ??= new NatsServerTooOld({ path, version })
  }
  return yield* tooOld ?? new NatsServerMissing({ looked: named ? [named] : ["PATH", ".chorus/bin"] })
})

const versionOf = (path: string) =>
  Effect.promise(() => promisify(execFile)(path, ["--version"]).catch(() => ({ stdout: "" }))).pipe(
    Effect.map(({ stdout }) => /v?(\d+\.\d+\.\d+\S*)/.exec(stdout)?.[1]),
  )

const isAtLeast = (version: string, minimum: ReadonlyArray<number>): boolean => {
  const numbers = version.split(/[.-]/).map(Number)
  const different = minimum.findIndex((least, place) => numbers[place] !== least)
  return different === -1 || (numbers[different] ?? 0) > (minimum[different] ?? 0)
}

/** A folder for the store of servers one after the other; it goes with the scope. */
export const temporaryFolder = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "chorus-nats-"))),
  (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true })),
)

/**
 * Runs a command ("$@") behind two folders, each of which may be "": the first is removed when the command has ended, the
 * second when this process has. Prints the command's pid. Our end of its stdin closes when this process ends, even by
 * SIGKILL, and then the watch kills the server: nothing that was acknowledged is lost by that, since nats.conf syncs first.
 * It closes, too, when the guard itself was killed: this process lives then, and the folders are for it to remove, or
 * another server's already.
 */
const GUARD = `
folder=$1; orphan=$2; shift 2
exec 3<&0
"$@" 3<&- &
server=$!
echo "$server"
clean() { if [ -n "$1" ]; then rm -rf "$1"; fi; }
(
  read -r _ <&3; trap '' TERM # not to be ended before it has cleaned
  guarded=$(kill -0 $$ && echo yes)
  kill -KILL "$server"; while kill -0 "$server"; do sleep 0.05; done
  if [ -n "$guarded" ]; then clean "$folder"; clean "$orphan"; fi
) >/dev/null 2>&1 &
watch=$!
wait "$server"; code=$?
kill -TERM "$watch"
clean "$folder"
exit "$code"
`

interface Guarded {
  readonly guard: ChildProcess
  readonly folder: string
  readonly temporary: boolean // it goes with the server
  readonly lastLines: Array<string>
  readonly ready: Promise<{ readonly pid: number; readonly port: number }>
  pid: number | undefined // of the server
  stopping: boolean
}

const spawnGuarded = async (path: string, options: NatsServerOptions): Promise<Guarded> => {
  const temporary = options.folder === undefined
  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), "chorus-nats-")))
  await mkdir(folder, { recursive: true })
  const config = options.config ?? join(ROOT, "nats.conf")
  const server = [path, "--config", config, "--port", String(options.port ?? -1), ...(options.args ?? [])]
  const removed = [temporary ? folder : "", options.orphan === "removed" ? folder : ""]
  const guard = spawn("/bin/sh", ["-c", GUARD, "nats-server guard", ...removed, ...server], {
    cwd: folder, // nats.conf's store is relative
    stdio: ["pipe", "pipe", "pipe"],
    detached: true, // the terminal's Ctrl-C is for us; the server goes last
  })
  guard.stdin.on("error", () => {}) // the guard may be gone when we close it
  const own = { guard, folder, temporary, lastLines: [] as string[], pid: undefined, stopping: false }
  const ready = untilReady(own)
  ready.catch(() => {}) // `start` may be interrupted before it looks
  return Object.assign(own, { ready })
}

const untilReady = (own: Omit<Guarded, "ready">) =>
  new Promise<{ readonly pid: number; readonly port: number }>((resolve, reject) => {
    let port: number | undefined
    let ready = false
    const check = () => {
      if (ready && port !== undefined && own.pid !== undefined) resolve({ pid: own.pid, port })
    }
    eachLine(own.guard.stdout, (line) => {
      own.pid = Number(line)
      check()
    })
    eachLine(own.guard.stderr, (line) => {
      own.lastLines.push(line)
      if (own.lastLines.length > 12) own.lastLines.shift()
      port ??= Number(/Listening for client connections on \S+:(\d+)/.exec(line)?.[1]) || undefined
      ready ||= line.includes("Server is ready")
      check()
    })
    own.guard.once("error", (error) => reject(error.message))
    own.guard.once("close", (code) => reject(`exit code ${code}`))
  })

const eachLine = (stream: NodeJS.ReadableStream | null, onLine: (line: string) => void) => {
  let rest = ""
  stream?.setEncoding("utf8").on("data", (chunk: string) => {
    const lines = (rest + chunk).split("\n")
    rest = lines.pop() ?? ""
    for (const line of lines) onLine(line)
  })
}

/** SIGTERM to the server, and the guard's SIGKILL if it does not heed it. Ends when its folder is removed too. */
const stop = async (own: Guarded) => {
  own.stopping = true
  const { guard, temporary } = own
  // A Ctrl-C can end the guard before it guards: then nothing else removes the folder.
  const clean = () => (temporary ? rm(own.folder, { recursive: true, force: true }) : undefined)
  if (guard.exitCode !== null || guard.signalCode !== null || guard.pid === undefined) {
    await withoutGuard(own)
    return clean()
  }
  const exited = new Promise<void>((resolve) => guard.once("exit", () => resolve()))
  if (own.pid === undefined) guard.stdin?.end()
  else signal(own.pid, "SIGTERM")
  const overdue = setTimeout(() => guard.stdin?.end(), 5000)
  await exited
  clearTimeout(overdue)
  await clean()
}

/** Ends when a server whose guard was killed has ended: until then the port and the store are its own. */
const withoutGuard = async ({ guard, pid }: Guarded): Promise<void> => {
  if (guard.signalCode === null || pid === undefined) return
  for (let waited = 0; waited < GONE_MILLIS && signal(pid, "SIGKILL"); waited += GONE_AGAIN_MILLIS) {
    await new Promise((again) => setTimeout(again, GONE_AGAIN_MILLIS))
  }
}

const GONE_MILLIS = 5_000
const GONE_AGAIN_MILLIS = 20

/** Whether there is such a process. */
const signal = (pid: number, name: NodeJS.Signals): boolean => {
  try {
    return process.kill(pid, name)
  } catch {
    return false // it ended in this moment
  }
}
