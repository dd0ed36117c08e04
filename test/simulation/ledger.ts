// What is stored, for those who stand outside the cluster: an operator who deploys and drains, readers at the server, and the
// verdict. It also sees every write, and notes what may never be: an epoch with two owners.
import { Result, Schema } from "effect"
import { Execution } from "../../src/durable/ownership.ts"
import { EXECUTIONS } from "../../src/durable/store.ts"
import { bucketOf } from "../../src/store/keys.ts"
import type { Stored } from "../../src/store/storage.ts"
import type { Logged } from "../../src/store/tokenLog.ts"
import { codec } from "../../src/wire/codec.ts"
import { StoredDeployment } from "../../src/wire/deployment.ts"
import { LogEntry } from "../../src/wire/infer.ts"
import { Replicas } from "../../src/wire/replicas.ts"
import { TOKEN_STREAM } from "../../src/wire/subjects.ts"
import type { StorageServer } from "./storage.ts"

const entries = codec("token log entry", LogEntry)
const decodeReplicas = Schema.decodeUnknownSync(Schema.fromJsonString(Replicas))
const decodeExecution = Schema.decodeUnknownSync(Schema.fromJsonString(Execution))

export const DEPLOYMENTS = bucketOf("chorus_deployments")
export const REPLICAS = bucketOf("chorus_replicas")
export const DRAINS = bucketOf("chorus_drains")
export const RECORDS = bucketOf(EXECUTIONS, { markerMillis: 60_000 })

const textOf = ({ data }: Stored): string => new TextDecoder().decode(data)

export const entryOf = (stored: Stored): LogEntry => Result.getOrThrow(entries.decode(stored.data))

/** The same message with another entry in it. */
export const withEntry = (stored: Stored, entry: LogEntry): Stored => ({ ...stored, data: entries.encode(entry) })

/** An entry, and when it was stored. */
export interface Read extends Logged {
  readonly at: number
}

export class Ledger {
  readonly #server: StorageServer
  readonly #owners = new Map<string, Map<number, string>>() // of each record, by epochs
  readonly #activations = new Map<string, string>() // by deployment and epoch: where its ranks were placed first
  readonly #highest = new Map<string, number>() // epoch of each deployment
  readonly violations: Array<string> = []

  constructor(server: StorageServer) {
    this.#server = server
    server.stored = (stream, stored) => this.#see(stream, stored)
    for (const bucket of [DEPLOYMENTS, REPLICAS, DRAINS, RECORDS]) server.make(bucket)
  }

  deploy(deployment: StoredDeployment): void {
    this.write(DEPLOYMENTS, deployment.name, Schema.encodeSync(StoredDeployment)(deployment))
  }

  write({ stream, bucket }: typeof DRAINS, key: string, value: unknown): void {
    const data = new TextEncoder().encode(JSON.stringify(value))
    this.#server.append({ stream, subject: `$KV.${bucket}.${key}`, data }, 0)
  }

  remove({ stream, bucket }: typeof DRAINS, key: string): void {
    this.#server.append({ stream, subject: `$KV.${bucket}.${key}`, data: new Uint8Array(0), removes: {} }, 0)
  }

  /** A session's log. */
  read(subject: string, after = 0): ReadonlyArray<Read> {
    return this.#server
      .messages(TOKEN_STREAM)
      .filter((one) => one.subject === subject && one.sequence > after)
      .map((one) => ({ entry: entryOf(one), sequence: one.sequence, at: one.at }))
  }

  last(subject: string): Logged | null {
    const last = this.#server.last(TOKEN_STREAM, subject)
    return last === undefined ? null : { entry: entryOf(last), sequence: last.sequence }
  }

  /** The newest entries of all logs, and no session's end. */
  loseTail(count: number): void {
    this.#server.loseTail(TOKEN_STREAM, count, (stored) => entryOf(stored)._tag === "End")
  }

  /** Executions that have not ended. */
  get records(): ReadonlyArray<string> {
    return this.#server
      .messages(RECORDS.stream)
      .filter(({ removed, subject }) => !removed && subject.split(".")[3] === "execution")
      .map(({ subject }) => subject)
  }

  /** Whether a replica drains, or is none any more. */
  drains(deployment: string, epoch: number): boolean {
    const stored = this.#server.last(REPLICAS.stream, `$KV.chorus_replicas.${deployment}`)
    if (stored === undefined) return false
    const replica = decodeReplicas(textOf(stored)).replicas.find(({ formed }) => formed === epoch)
    return replica === undefined || replica.state === "draining"
  }

  /** The highest epoch that a deployment has given. */
  highest(deployment: string): number {
    return this.#highest.get(deployment) ?? 0
  }

  #see(stream: string, stored: Stored): void {
    if (stream === REPLICAS.stream && !stored.removed) this.#seeReplicas(stored)
    if (stream === RECORDS.stream && stored.subject.split(".")[3] === "execution") this.#seeRecord(stored)
  }

  /** A record that is made anew, by who does not know that the session has ended, counts from the start. */
  #seeRecord(stored: Stored): void {
    const id = stored.subject
    if (stored.removed) return void this.#owners.delete(id)
    const { owner, epoch } = decodeExecution(textOf(stored))
    if (owner === "") return
    const owners = this.#owners.get(id) ?? new Map<number, string>()
    this.#owners.set(id, owners)
    const before = owners.get(epoch) ?? owner
    if (before !== owner) this.violations.push(`epoch ${epoch} of ${id} belongs to ${before} and to ${owner}`)
    owners.set(epoch, owner)
  }

  /** An epoch is one activation's for ever, and what was given once is not given again. */
  #seeReplicas(stored: Stored): void {
    const name = stored.subject.split(".").at(-1) ?? ""
    const { epoch, replicas } = decodeReplicas(textOf(stored))
    const before = this.highest(name)
    if (epoch < before) this.violations.push(`${name} goes back from epoch ${before} to ${epoch}`)
    this.#highest.set(name, Math.max(before, epoch))
    for (const { epoch: activation, formed, ranks } of replicas) {
      const key = `${name} ${activation} ${formed}`
      const places = ranks.map(({ group, member, host }) => `${group} ${member} on ${host}`).join(", ")
      const first = this.#activations.get(key) ?? places
      if (first !== places) this.violations.push(`epoch ${formed} of ${name} is placed at ${first}, and at ${places}`)
      this.#activations.set(key, first)
    }
  }
}
