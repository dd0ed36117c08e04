// Reads the head of a file piece by piece. A length that comes from the file is held against the file's size before it is
// believed, and the buffer grows with what is read, so the weights behind the head never come into memory.
import { closeSync, openSync, readSync, statSync } from "node:fs"
import { ModelCorrupt, ModelUnreadable } from "../errors.ts"

const FIRST_READ = 1 << 20

export class FileCursor {
  readonly file: string
  readonly size: number // bytes of the whole file
  offset = 0
  #descriptor: number
  #buffer = Buffer.alloc(0) // the file's first bytes

  private constructor(file: string, descriptor: number, size: number) {
    this.file = file
    this.size = size
    this.#descriptor = descriptor
  }

  /** Runs `read` on the file and closes it, whatever comes. */
  static read<A>(file: string, read: (cursor: FileCursor) => A): A {
    const stat = attempt(file, () => statSync(file)) // before opening, which waits for ever at a pipe
    if (!stat.isFile()) throw new ModelUnreadable({ file, reason: "it is not a regular file" })
    const descriptor = attempt(file, () => openSync(file, "r"))
    try {
      return read(new FileCursor(file, descriptor, stat.size))
    } finally {
      closeSync(descriptor)
    }
  }

  /** The next bytes; the view stays valid. `what` says in the error what the file ends in. */
  take(bytes: number, what: string): Buffer {
    this.#need(bytes, what)
    const from = this.offset
    this.offset += bytes
    return this.#buffer.subarray(from, this.offset)
  }

  u32(what: string): number {
    return this.take(4, what).readUInt32LE(0)
  }

  /** A count or length; those beyond 2^53 become inexact, and are beyond every file too. */
  u64(what: string): number {
    return Number(this.take(8, what).readBigUInt64LE(0))
  }

  string(what: string): string {
    return this.take(this.u64(what), what).toString("utf8")
  }

  corrupt(reason: string): ModelCorrupt {
    return new ModelCorrupt({ file: this.file, reason })
  }

  #need(bytes: number, what: string): void {
    const end = this.offset + bytes
    if (end > this.size) throw this.corrupt(`it has ${this.size} bytes and ends inside ${what}`)
    if (end <= this.#buffer.length) return
    const grown = Buffer.alloc(Math.min(this.size, Math.max(end, FIRST_READ, 2 * this.#buffer.length)))
    this.#buffer.copy(grown)
    let filled = this.#buffer.length
    while (filled < grown.length) {
      const got = attempt(this.file, () => readSync(this.#descriptor, grown, filled, grown.length - filled, filled))
      if (got === 0) throw this.corrupt(`it was cut to ${filled} bytes while it was read`)
      filled += got
    }
    this.#buffer = grown
  }
}

/** What the file system refuses is the model's error, and names the file. */
export const attempt = <A>(file: string, access: () => A): A => {
  try {
    return access()
  } catch (error) {
    throw new ModelUnreadable({ file, reason: error instanceof Error ? error.message : String(error) })
  }
}
