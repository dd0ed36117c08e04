// One file of a repository, brought into a part that grows: what came before an interruption is not fetched again, and
// nothing bears the file's name before every byte of it is checked.
import { createHash, type Hash } from "node:crypto"
import { createReadStream, statSync } from "node:fs"
import { type FileHandle, open, rename, rm } from "node:fs/promises"
import { downloadFile, HubApiError } from "@huggingface/hub"
import type { Hub, RemoteFile } from "./repository.ts"

/** Why trying again does not help, as a whole sentence. */
export class Refused extends Error {}

export interface Fetching {
  readonly hub: Hub
  readonly repository: string
  readonly revision: string
  readonly signal: AbortSignal
  readonly came: (bytes: number) => void // of this file, so far
}

/** A connection that breaks is made anew so often in a row without a byte in between, with such pauses. */
const ATTEMPTS = 5
const PAUSE_MILLIS = 500

/** A server that sends nothing for so long is as good as gone. */
const SILENCE_MILLIS = 60_000

/** Brings `file` to `target`, on the same disk as `part`. */
export const download = async (file: RemoteFile, part: string, target: string, fetching: Fetching): Promise<void> => {
  const resumed = sizeOf(part) > 0
  const found = await fetched(file, part, fetching)
  if (found === file.digest.hex) return rename(part, target)
  await rm(part, { force: true })
  if (resumed) return download(file, part, target, fetching) // the part may have been damaged long ago
  throw new Refused(`${file.path} came damaged: its ${file.digest.algorithm} hash is ${found}, not ${file.digest.hex}`)
}

/** Completes the part, and gives the digest of the whole. */
const fetched = async (file: RemoteFile, part: string, fetching: Fetching): Promise<string> => {
  if (sizeOf(part) > file.bytes) await rm(part)
  const hash = hashOf(file)
  await using handle = await open(part, "a")
  let at = 0
  if (sizeOf(part) > 0) for await (const chunk of createReadStream(part)) at += add(hash, chunk)
  fetching.came(at)
  for (let attempt = 1; at < file.bytes; ) {
    try {
      for await (const chunk of bytesFrom(file, at, fetching)) {
        await write(handle, chunk)
        at += add(hash, chunk)
        attempt = 1
        fetching.came(at)
      }
      if (at < file.bytes) throw new Error(`the connection ended after ${at} of ${file.bytes} bytes`)
    } catch (error) {
      fetching.signal.throwIfAborted()
      if (attempt === ATTEMPTS || !isPassing(error)) throw error
      await new Promise((over) => setTimeout(over, PAUSE_MILLIS * attempt++))
    }
  }
  await handle.sync()
  return hash.digest("hex")
}

const add = (hash: Hash, chunk: Uint8Array): number => {
  hash.update(chunk)
  return chunk.byteLength
}

const write = async (handle: FileHandle, chunk: Uint8Array): Promise<void> => {
  for (let done = 0; done < chunk.byteLength; ) done += (await handle.write(chunk, done)).bytesWritten
}

/** The file from an offset on, as it comes. */
async function* bytesFrom(file: RemoteFile, from: number, { hub, repository, revision, signal }: Fetching) {
  const silence = new AbortController()
  const stop = () => silence.abort(new Error(`nothing came for ${SILENCE_MILLIS / 1000} s`))
  const timer = setTimeout(stop, SILENCE_MILLIS)
  const either = AbortSignal.any([signal, silence.signal])
  try {
    const blob = await downloadFile({
      ...{ ...hub, repo: repository, path: file.path, revision },
      xet: false, // by plain HTTP, which mirrors speak too
      fetch: (url, init) => fetch(url, { ...init, signal: either }),
    })
    if (blob === null) throw new Refused(`${file.path} is not there any more`)
    if (blob.size !== file.bytes) throw new Refused(`${file.path} has ${blob.size} bytes, the hub lists ${file.bytes}`)
    for await (const chunk of blob.slice(from).stream()) {
      timer.refresh()
      yield chunk
    }
  } finally {
    clearTimeout(timer)
  }
}

/** Whether it may be better the next time: no answer, half an answer, or a server that has too much to do. */
const isPassing = (error: unknown): boolean => {
  if (error instanceof HubApiError) return error.statusCode === 429 || error.statusCode >= 500
  return !(error instanceof Refused || isOfDisk(error))
}

const isOfDisk = (error: unknown): boolean => error instanceof Error && "syscall" in error && error.syscall === "write"

const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0

/** As the hub has it: large files by their content alone, small ones as git names a blob. */
const hashOf = ({ digest, bytes }: RemoteFile): Hash => {
  if (digest.algorithm === "sha256") return createHash("sha256")
  return createHash("sha1").update(`blob ${bytes}\0`)
}
