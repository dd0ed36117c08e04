// What a release leaves on a NATS server: the streams with their settings, and every message as it was stored.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type JetStreamManager, jetstreamManager, type StreamConfig } from "@nats-io/jetstream"
import { headers, type NatsConnection } from "@nats-io/transport-node"
import { entryOf } from "../../src/store/tokenLog.ts"
import type { InferRequest } from "../../src/wire/infer.ts"
import { subjectsOf } from "../../src/wire/subjects.ts"

const HERE = import.meta.dirname

/** The versions that there are recordings of. */
export const recorded = (): ReadonlyArray<string> =>
  readdirSync(HERE).filter((name) => existsSync(join(HERE, name, "streams.json")))

export const DEPLOYMENT = "recorded"

export const TOKENS = 200 // of each answer

const REQUEST: InferRequest = { prompt: "export class Queue<T> {\n", maxTokens: TOKENS, minTokens: TOKENS }
/** Of the sessions that had ended, and in the same order of those under way. */
export const REQUESTS: ReadonlyArray<InferRequest> = [
  { ...REQUEST, temperature: 0, speculation: "none" },
  { ...REQUEST, temperature: 0.8, seed: 5n, presencePenalty: 0.3, frequencyPenalty: 0.05, logitBias: { 13: -1 } },
  {
    ...{ ...REQUEST, temperature: 0.9, seed: 7n, logprobs: 1, promptLogprobs: 0, stop: ["no such text"] },
    speculation: { depth: 3, width: 2, nodes: 6 },
  },
]

export interface RecordedStream {
  readonly config: StreamConfig
  readonly messages: ReadonlyArray<{
    readonly subject: string
    readonly headers: Readonly<Record<string, ReadonlyArray<string>>>
    readonly data: string // base64
  }>
}

/** A session, and the tokens that the same request gave undisturbed. */
export interface RecordedSession {
  readonly session: string
  readonly ended: boolean // before the release was killed
  readonly tokens: ReadonlyArray<number>
}

export interface Recording {
  readonly version: string
  readonly streams: ReadonlyArray<RecordedStream>
  readonly sessions: ReadonlyArray<RecordedSession>
}

export const recordingOf = (version: string): Recording =>
  JSON.parse(readFileSync(join(HERE, version, "streams.json"), "utf8"))

/** Deployments name models by their paths, which a recording cannot change: the demo pair is put there. */
export const recordedModels = (): Readonly<Record<"base" | "draft", string>> => {
  const folder = join(tmpdir(), "chorus-recorded-models")
  mkdirSync(folder, { recursive: true })
  const path = (name: string): string => {
    rmSync(join(folder, name), { force: true })
    symlinkSync(join(HERE, "../../models/demo", name), join(folder, name))
    return join(folder, name)
  }
  return { base: path("base"), draft: path("draft") }
}

/** A session's tokens that were stored. */
export const loggedOf = (streams: Recording["streams"], session: string): ReadonlyArray<number> => {
  const subject = subjectsOf(DEPLOYMENT).tokens(session)
  return streams
    .flatMap(({ messages }) => messages)
    .filter((message) => message.subject === subject)
    .map(({ data }) => entryOf(Buffer.from(data, "base64")))
    .flatMap((entry) => (entry._tag === "Tokens" ? entry.tokens.map(({ id }) => id) : []))
}

/** Everything that a server has stored. */
export const dump = async (connection: NatsConnection): Promise<ReadonlyArray<RecordedStream>> => {
  const manager = await jetstreamManager(connection)
  const streams: Array<RecordedStream> = []
  for await (const { config, state } of manager.streams.list()) {
    const messages: Array<RecordedStream["messages"][number]> = []
    for (let seq = Math.max(state.first_seq, 1); seq <= state.last_seq; seq++) {
      const message = await manager.streams.getMessage(config.name, { seq })
      if (message === null) continue
      const { subject, header, data } = message
      const carried = Object.fromEntries((header?.keys() ?? []).map((key) => [key, header.values(key)]))
      messages.push({ subject, headers: carried, data: Buffer.from(data).toString("base64") })
    }
    streams.push({ config, messages })
  }
  return streams.sort((a, b) => (a.config.name < b.config.name ? -1 : 1))
}

/** Stores it in a server that has nothing. */
export const load = async (connection: NatsConnection, streams: Recording["streams"]): Promise<void> => {
  const manager = await jetstreamManager(connection)
  for (const { config, messages } of streams) {
    await manager.streams.add(config)
    for (const message of messages) await store(manager, message)
  }
}

const store = async (manager: JetStreamManager, message: RecordedStream["messages"][number]): Promise<void> => {
  const carrying = headers()
  for (const [key, values] of Object.entries(message.headers)) {
    // What the writer expected of the stream was true then.
    if (!key.startsWith("Nats-Expected-")) for (const value of values) carrying.append(key, value)
  }
  await manager.jetstream().publish(message.subject, Buffer.from(message.data, "base64"), { headers: carrying })
}
