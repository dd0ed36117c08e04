// Which deployments `chorus up` runs on this machine: a small file each in the user's runtime folder, so that `ps` and
// `generate` find them without a URL. A file whose process is gone is stale, and removed by the first command that sees it.
import { lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Option, Schema } from "effect"
import { CommandFailed } from "./errors.ts"

const Running = Schema.Struct({
  name: Schema.String, // of the deployment
  nats: Schema.String, // URL
  keys: Schema.NullOr(Schema.String), // folder; null: its server asks for none
  pid: Schema.Int, // of `chorus up`
  started: Schema.Finite, // milliseconds since 1970
  processStart: Schema.String, // tells a process from a later one of the same number; empty where that is not known
})
export type Running = typeof Running.Type

const decode = Schema.decodeUnknownOption(Schema.fromJsonString(Running))

export const folderOf = (environment: NodeJS.ProcessEnv): string => {
  const runtime = environment.XDG_RUNTIME_DIR
  return runtime === undefined || runtime === ""
    ? join(tmpdir(), `chorus-${process.getuid?.() ?? "user"}`)
    : join(runtime, "chorus")
}

/** What runs here, oldest first. */
export const running = (folder: string): ReadonlyArray<Running> =>
  filesIn(folder)
    .flatMap((file) => {
      const entry = read(join(folder, file))
      if (entry !== undefined && isAlive(entry)) return [entry]
      rmSync(join(folder, file), { force: true })
      return []
    })
    .sort((a, b) => a.started - b.started)

/** The keys of a server that `chorus up` has started here; null where it has none, or none is known. */
export const keysAt = (folder: string, url: string): string | null =>
  running(folder).find(({ nats }) => nats === url)?.keys ?? null

/** Announces a deployment until the scope closes. Fails where one of that name runs already. */
export const announce = (folder: string, { name, nats, keys }: Pick<Running, "name" | "nats" | "keys">) =>
  Effect.acquireRelease(
    Effect.suspend(() => {
      const other = running(folder).find((entry) => entry.name === name)
      if (other !== undefined) {
        const reason = `${name} runs here already, as process ${other.pid}. End it first, or choose another --name.`
        return Effect.fail(new CommandFailed({ reason }))
      }
      const entry = { name, nats, keys, pid: process.pid, started: Date.now(), processStart: startOf(process.pid) }
      return Effect.try({
        try: () => write(folder, entry),
        catch: (error) => cannotWrite(folder, error),
      })
    }),
    () =>
      Effect.sync(() => {
        rmSync(join(folder, `${name}.json`), { force: true })
        try {
          rmdirSync(folder)
        } catch {
          // others run
        }
      }),
  )

const cannotWrite = (folder: string, error: unknown) =>
  new CommandFailed({ reason: `cannot write to ${folder}: ${error instanceof Error ? error.message : error}` })

const write = (folder: string, entry: Running): void => {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const { uid } = lstatSync(folder)
  if (process.getuid !== undefined && uid !== process.getuid()) throw new Error("it belongs to another user")
  const file = join(folder, `${entry.name}.json`)
  writeFileSync(`${file}.${process.pid}`, JSON.stringify(entry), { mode: 0o600 })
  renameSync(`${file}.${process.pid}`, file)
}

const filesIn = (folder: string): ReadonlyArray<string> => {
  try {
    return readdirSync(folder).filter((file) => file.endsWith(".json"))
  } catch {
    return []
  }
}

const read = (file: string): Running | undefined => {
  try {
    return Option.getOrUndefined(decode(readFileSync(file, "utf8")))
  } catch {
    return undefined
  }
}

const isAlive = ({ pid, processStart }: Running): boolean => {
  try {
    process.kill(pid, 0)
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code !== "EPERM") return false
  }
  return processStart === "" || processStart === startOf(pid)
}

/** Field 22 of /proc/PID/stat: when the process started, in ticks since boot. */
const startOf = (pid: number): string => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? ""
  } catch {
    return ""
  }
}
