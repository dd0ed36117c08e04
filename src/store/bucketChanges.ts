// The entries under some keys of a bucket, and each change of them. The client library's own `watch` and `keys` leave their
// consumer on the server for five minutes, so each process that is killed, and each list of keys, would have its ghosts there.
import { randomUUID } from "node:crypto"
import { AckPolicy, DeliverPolicy, type JsMsg, jetstream, jetstreamManager } from "@nats-io/jetstream"
import type { KvEntry } from "@nats-io/kv"
import { type MsgHdrs, type NatsConnection, nanos } from "@nats-io/transport-node"
import { inboxOf } from "../bus/dial.ts"

export type Change = Pick<KvEntry, "key" | "operation" | "revision" | "string">

export interface BucketChanges {
  readonly kept: number // entries that are there; they come first
  /** Ends, or throws, where one may have been missed: then it has to begin anew. */
  readonly all: AsyncIterable<Change>
  readonly stop: () => void
}

/** The server takes a consumer away to which nobody has listened for so long. */
const LEFT_MILLIS = 5_000

/** When two have not come, whatever else would come is thought lost. */
const HEARTBEAT_MILLIS = 5_000

/** `keys` may have the wildcards of subjects. */
export const changesOf = async (
  connection: NatsConnection,
  bucket: string,
  keys: ReadonlyArray<string>,
): Promise<BucketChanges> => {
  const stream = `KV_${bucket}`
  const prefix = `$KV.${bucket}.`
  const { consumers } = await jetstreamManager(connection, { checkAPI: false })
  const { name, num_pending: kept } = await consumers.add(stream, {
    ...{ name: randomUUID(), deliver_subject: inboxOf(connection), ack_policy: AckPolicy.None },
    ...{ deliver_policy: DeliverPolicy.LastPerSubject, ...filterOf(keys.map((key) => `${prefix}${key}`)) },
    ...{ idle_heartbeat: nanos(HEARTBEAT_MILLIS), inactive_threshold: nanos(LEFT_MILLIS), flow_control: true },
    ...{ mem_storage: true, num_replicas: 1 },
  })
  const consumer = await jetstream(connection).consumers.getPushConsumer(stream, name)
  const messages = await consumer.consume({ abort_on_missing_resource: true })
  const stop = (): void => {
    messages.stop()
    if (!connection.isClosed()) consumers.delete(stream, name).catch(() => {}) // it is gone, or goes by itself
  }
  const watchHeartbeats = async (): Promise<void> => {
    for await (const { type } of messages.status()) if (type === "heartbeats_missed") messages.stop()
  }
  void watchHeartbeats()
  return { kept, all: inOrder(messages, prefix), stop }
}

async function* inOrder(messages: AsyncIterable<JsMsg>, prefix: string): AsyncGenerator<Change, void, void> {
  let delivered = 0
  for await (const message of messages) {
    if (message.info.deliverySequence !== ++delivered) return
    yield {
      key: message.subject.slice(prefix.length),
      operation: operationOf(message.headers),
      revision: message.seq,
      string: () => message.string(),
    }
  }
}

/** Servers before 2.10 know but one filter. */
const filterOf = (subjects: Array<string>) =>
  subjects.length === 1 ? { filter_subject: `${subjects[0]}` } : { filter_subjects: subjects }

export const operationOf = (headers: MsgHdrs | undefined): Change["operation"] => {
  const operation = headers?.get("KV-Operation")
  if (operation === "DEL" || operation === "PURGE") return operation
  return headers?.has("Nats-Marker-Reason") === true ? "PURGE" : "PUT"
}
