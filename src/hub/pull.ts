// Brings a model from the hub into the models folder: its files lie in a hidden folder until all of them are complete.
import { existsSync, rmdirSync, statSync } from "node:fs"
import { link, mkdir, readdir, readFile, rename, rm, statfs, writeFile } from "node:fs/promises"
import { basename, dirname, join } from "node:path"
import { Effect } from "effect"
import { download, Refused } from "./download.ts"
import { PullFailed } from "./errors.ts"
import { isModelFile } from "./name.ts"
import { type Hub, type RemoteFile, reasonOf, type Selection } from "./repository.ts"

/** What of a selection is not here yet. */
export interface Order extends Selection {
  readonly path: string // of the model, when it is here
  readonly missing: ReadonlyArray<RemoteFile>
  readonly bytes: number // that are to be brought, without what came before an interruption
}

/** Where parts lie: no name that begins with a dot is taken for a model. */
const STAGING = ".pulling"

const stagingOf = (models: string, repository: string): string => join(models, STAGING, repository)
const partOf = (staging: string, { path, digest }: RemoteFile): string =>
  join(staging, `${basename(path)}.${digest.hex.slice(0, 16)}.part`)
const completeOf = (staging: string, { path, digest }: RemoteFile): string =>
  join(staging, `${basename(path)}.${digest.hex.slice(0, 16)}`)

export const order = (selection: Selection, models: string): Order => {
  const folder = join(models, selection.repository)
  const staging = stagingOf(models, selection.repository)
  const missing = selection.files.filter((file) => sizeOf(join(folder, basename(file.path))) !== file.bytes)
  const [first] = selection.files
  const here = (file: RemoteFile) => sizeOf(completeOf(staging, file)) + sizeOf(partOf(staging, file))
  return {
    ...selection,
    path: first !== undefined && isModelFile(first.path) ? join(folder, basename(first.path)) : folder,
    missing,
    bytes: missing.reduce((sum, file) => sum + Math.max(0, file.bytes - here(file)), 0),
  }
}

export interface Pulling {
  readonly hub: Hub
  readonly models: string // the folder
  readonly report: (file: RemoteFile, fraction: number) => void // of all that is brought
}

/** Ends when the model is complete. Interrupted, it leaves parts that the next pull goes on with. */
export const pull = Effect.fn("hub.pull")(function* (order: Order, { hub, models, report }: Pulling) {
  const { repository, missing } = order
  if (missing.length === 0) return
  const staging = stagingOf(models, repository)
  const fail = (error: unknown) => new PullFailed({ repository, reason: failureOf(error, hub, repository) })
  yield* Effect.tryPromise({ try: () => mkdir(staging, { recursive: true }), catch: fail })
  yield* Effect.scoped(
    Effect.gen(function* () {
      yield* Effect.acquireRelease(Effect.tryPromise({ try: () => lock(staging), catch: fail }), () =>
        Effect.promise(() => rm(join(staging, LOCK), { force: true })),
      )
      yield* Effect.tryPromise({ try: () => enough(order, models), catch: fail })
      const all = missing.reduce((sum, { bytes }) => sum + bytes, 0)
      let before = 0
      for (const file of missing) {
        const came = (bytes: number) => report(file, all === 0 ? 1 : (before + bytes) / all)
        const target = completeOf(staging, file)
        yield* Effect.tryPromise({
          try: async (signal) => {
            if (sizeOf(target) === file.bytes) return
            await download(file, partOf(staging, file), target, { ...order, hub, signal, came })
          },
          catch: fail,
        })
        before += file.bytes
      }
      yield* Effect.uninterruptible(Effect.tryPromise({ try: () => publish(order, staging, models), catch: fail }))
    }),
  )
  yield* Effect.sync(() => removeEmpty(staging, models))
})

/** All are complete: they get their names, the one last that makes a folder a model. */
const publish = async ({ missing, repository }: Order, staging: string, models: string): Promise<void> => {
  const folder = join(models, repository)
  await mkdir(folder, { recursive: true })
  const last = ({ path }: RemoteFile): number => (path === "config.json" ? 1 : 0)
  for (const file of missing.toSorted((a, b) => last(a) - last(b))) {
    const name = basename(file.path)
    await rename(completeOf(staging, file), join(folder, name))
    const older = (await readdir(staging)).filter((part) => part.startsWith(`${name}.`)) // of what the hub had before
    for (const part of older) await rm(join(staging, part))
  }
}

/** The folders that nothing lies in any more. */
const removeEmpty = (staging: string, models: string): void => {
  try {
    for (let folder = staging; folder !== models; folder = dirname(folder)) rmdirSync(folder)
  } catch {
    // parts of another model
  }
}

const LOCK = "lock"

/** One process at a time brings a repository's files. A link appears at once, with the holder's number in it. */
const lock = async (staging: string): Promise<void> => {
  const [file, own] = [join(staging, LOCK), join(staging, `${LOCK}.${process.pid}`)]
  await writeFile(own, `${process.pid}`)
  try {
    for (;;) {
      try {
        return await link(own, file)
      } catch (error) {
        if (!existsSync(file)) throw error
        const holder = Number(await readFile(file, "utf8"))
        if (isAlive(holder)) throw new Refused(`process ${holder} is bringing it: wait for it, or end it`)
        await rm(file, { force: true })
      }
    }
  } finally {
    await rm(own, { force: true })
  }
}

const isAlive = (pid: number): boolean => {
  try {
    return pid > 0 && pid !== process.pid && process.kill(pid, 0)
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM"
  }
}

/** Room for a little more than the files, so that the disk is not full behind them. */
const SPARE_BYTES = 64 * 2 ** 20

const enough = async ({ bytes }: Order, models: string): Promise<void> => {
  const { bavail, bsize } = await statfs(models)
  const free = bavail * bsize
  if (free >= bytes + SPARE_BYTES) return
  throw new Refused(
    `${mebibytes(bytes)} are to be brought, and ${models} has ${mebibytes(free)} free. CHORUS_MODELS_DIR names another folder`,
  )
}

const mebibytes = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20)} MiB`

const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0

const failureOf = (error: unknown, hub: Hub, repository: string): string => {
  if (error instanceof Refused) return error.message
  if (error instanceof Error && "syscall" in error && "path" in error) return error.message
  return `${reasonOf(error, hub, repository)}. The same command goes on where this one ended`
}
