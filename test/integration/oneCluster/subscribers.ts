// A thousand read one token stream, as plain subscribers over some connections and as readers of the log, and all get the
// same bytes. One of them takes its time, and costs the others nothing.
import { jetstream } from "@nats-io/jetstream"
import type { NatsConnection } from "@nats-io/transport-node"
import { afterAll, beforeAll, expect, test } from "vitest"
import { type Client, connect } from "../../../src/client/index.ts"
import { codec } from "../../../src/wire/codec.ts"
import { LogEntry } from "../../../src/wire/infer.ts"
import { subjectsOf, TOKEN_STREAM } from "../../../src/wire/subjects.ts"
import type { Cluster } from "../cluster.ts"
import { SAMPLED, TREE } from "../requests.ts"
import { oneCluster } from "./cluster.ts"

const SUBSCRIBERS = 960
const READERS = 39 // of the log; and a slow one
const CONNECTIONS = 16
const REQUEST = {
  ...SAMPLED,
  maxTokens: 60,
  speculation: TREE,
} as const

const entries = codec("token log entry", LogEntry)

let cluster: Cluster
let connections: ReadonlyArray<NatsConnection> = []
let slowly: Client
beforeAll(async () => {
  cluster = await oneCluster()
  connections = await Promise.all(Array.from({ length: CONNECTIONS }, () => cluster.dial()))
  slowly = await connect({ url: cluster.local.url, keys: cluster.local.keys, deployment: "test" })
})
afterAll(async () => {
  await slowly.close()
  for (const connection of connections) await connection.close()
})

test("1,000 subscribers read the same bytes while one of them reads a token at a time", async () => {
  // Plain subscribers cannot know the session beforehand, so they hear all sessions of the deployment, of which there is one.
  const plain = Array.from({ length: SUBSCRIBERS }, (_, i) => subscriber(connectionOf(i)))
  await Promise.all(connections.map((connection) => connection.flush()))
  const { session, ending } = await cluster.client.generate(REQUEST)

  const slow = slowReader(session)
  await slow.read(1)
  const logs = Array.from({ length: READERS }, (_, i) => logReader(connectionOf(i), session))
  const all = await Promise.all([...plain, ...logs])
  const { finishReason } = await ending()

  // 999 have all of it, and the session has ended, while the slow one has a token more than at the beginning.
  await slow.read(2)
  expect(finishReason).toBe("length")
  expect(new Set(all).size).toBe(1)
  const [bytes] = all
  const decoded = entriesOf(Buffer.from(bytes ?? "", "hex"))
  expect(decoded.at(-1)).toMatchObject({ _tag: "End", at: 60 })
  const tokens = decoded.flatMap((entry) => (entry._tag === "Tokens" ? entry.tokens : []))
  expect(tokens).toHaveLength(60)
  await slow.read(60)
  expect(slow.seen).toEqual(tokens)
})

const connectionOf = (i: number): NatsConnection => {
  const connection = connections[i % connections.length]
  if (connection === undefined) throw new RangeError(`${i} of ${connections.length}`)
  return connection
}

/** Each message behind its length, so that where one ends is part of what is compared. */
const framed = (message: Uint8Array): Uint8Array => {
  const frame = Buffer.alloc(4 + message.byteLength)
  frame.writeUInt32LE(message.byteLength)
  frame.set(message, 4)
  return frame
}

const entriesOf = (bytes: Buffer): ReadonlyArray<LogEntry> => {
  const all: Array<LogEntry> = []
  for (let at = 0; at < bytes.byteLength; ) {
    const size = bytes.readUInt32LE(at)
    all.push(decoded(bytes.subarray(at + 4, at + 4 + size)))
    at += 4 + size
  }
  return all
}

const decoded = (message: Uint8Array): LogEntry => {
  const entry = entries.decode(message)
  if (entry._tag === "Failure") throw entry.failure
  return entry.success
}

/** All of a stream's bytes, as hexadecimal digits. */
const subscriber = (connection: NatsConnection): Promise<string> =>
  new Promise((resolve, reject) => {
    const frames: Array<Uint8Array> = []
    const subscription = connection.subscribe(subjectsOf("test").tokens("*"), {
      callback: (error, { data }) => {
        if (error !== null) return reject(error)
        frames.push(framed(data))
        if (decoded(data)._tag !== "End") return
        subscription.unsubscribe()
        resolve(Buffer.concat(frames).toString("hex"))
      },
    })
  })

const logReader = async (connection: NatsConnection, session: string): Promise<string> => {
  const frames: Array<Uint8Array> = []
  const consumer = await jetstream(connection).consumers.get(TOKEN_STREAM, {
    filter_subjects: subjectsOf("test").tokens(session),
  })
  for await (const { data } of await consumer.consume()) {
    frames.push(framed(data))
    if (decoded(data)._tag === "End") break
  }
  return Buffer.concat(frames).toString("hex")
}

/** Reads when it is told to. */
const slowReader = (session: string) => {
  const seen: Array<unknown> = []
  const iterator = slowly.stream(session)[Symbol.asyncIterator]()
  const read = async (upTo: number): Promise<void> => {
    while (seen.length < upTo) {
      const next = await iterator.next()
      if (next.done) throw new Error(`ended after ${seen.length} tokens`)
      seen.push(next.value)
    }
  }
  return { seen, read }
}
