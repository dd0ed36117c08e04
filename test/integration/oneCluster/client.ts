// The client and what a deployment promises to it: whole answers, streams that can be left and found again, deadlines,
// interest, cancelling, and what is said where there is nothing to say.
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Exit, Fiber, Result, Scope, Stream } from "effect"
import { beforeAll, describe, expect, test } from "vitest"
import { Chorus } from "../../../src/client/effect.ts"
import { connect, type Generation } from "../../../src/client/index.ts"
import { type RunningServer, start as startServer } from "../../../src/natsServer/natsServer.ts"
import { RankBeat } from "../../../src/wire/beat.ts"
import { codec } from "../../../src/wire/codec.ts"
import { InferAnswer, InferRequest, LogEntry, type LoggedToken } from "../../../src/wire/infer.ts"
import { GroupControl, PassCommand } from "../../../src/wire/pass.ts"
import { groupSubjects, subjectsOf } from "../../../src/wire/subjects.ts"
import { Cluster } from "../cluster.ts"
import { PROMPT, SAMPLED, TREE } from "../requests.ts"
import { oneCluster } from "./cluster.ts"

const SHORT: InferRequest = { ...SAMPLED, maxTokens: 24, speculation: TREE }
const LONG: InferRequest = { ...SHORT, maxTokens: 200 }

const subjects = subjectsOf("test")
const requests = codec("infer request", InferRequest)
const answers = codec("infer answer", InferAnswer)
const entries = codec("token log entry", LogEntry)

describe("one deployment", () => {
  let cluster: Cluster
  beforeAll(async () => {
    cluster = await oneCluster()
  })

  test("the whole answer is what the stream says, and the session is found again", async () => {
    const { client } = cluster
    const streamed = await client.generate(SHORT)
    const ending = await streamed.ending()
    const { stats, ...whole } = await client.complete(SHORT)
    expect(whole).toMatchObject({ text: ending.text, tokens: ending.tokens, finishReason: "length", error: "" })
    expect(whole).toMatchObject({ seed: 5n, promptTokens: streamed.promptTokens })
    expect(stats.tokens).toBe(24)
    expect((await client.stream(whole.session).ending()).tokens).toEqual(whole.tokens) // and it has a log like any other
    await expect(client.complete({ prompt: PROMPT, temperature: -1 })).rejects.toMatchObject({ _tag: "InvalidRequest" })
    const found = await client.find(whole.session)
    expect(found).toMatchObject({ session: whole.session, seed: 5n, promptTokens: streamed.promptTokens })
    expect(await found.ending()).toMatchObject({ tokens: ending.tokens, text: ending.text, finishReason: "length" })
    await expect(client.find("nobody")).rejects.toMatchObject({ _tag: "SessionExpired", session: "nobody" })
  })

  test("an asker that is gone does no harm: the session runs to its end, and the next one is served", async () => {
    const ended = endOf(cluster)
    const asker = await cluster.dial()
    asker.publish(subjects.infer, requests.encode(SHORT), { reply: "_INBOX.gone" })
    await asker.flush()
    await asker.close()
    expect(await ended).toMatchObject({ finishReason: "length", at: 24 })
    expect((await cluster.generate(SHORT)).tokens).toHaveLength(24)
  })

  test("a deadline ends a session with what it has", async () => {
    const whole = await cluster.client.complete(LONG)
    const cut = await cluster.client.complete({ ...LONG, deadlineMillis: Math.ceil(whole.stats.millis / 4) })
    expect(cut.finishReason).toBe("deadline")
    expect(cut.tokens.length).toBeLessThan(200)
    expect(cut.tokens).toEqual(whole.tokens.slice(0, cut.tokens.length))
    await everyRankIsFree(cluster)
  })

  test("a session that is not read is cancelled, one that is read goes on", async () => {
    const { client } = cluster
    const unread = await client.generate({ ...LONG, maxTokens: 400, interestMillis: 300 })
    const read = await client.generate({ ...LONG, maxTokens: 400, interestMillis: 1_000 })
    expect((await read.ending()).finishReason).toBe("length")
    expect(read.session).not.toBe(unread.session)
    expect((await unread.ending()).finishReason).toBe("cancelled")
    await everyRankIsFree(cluster)
  })

  test("readers by session keep it alive too, wherever they begin", async () => {
    const { client } = cluster
    const { session } = await client.generate({ ...LONG, maxTokens: 400, interestMillis: 1_000 })
    expect((await client.stream(session, { from: "live" }).ending()).finishReason).toBe("length")
  })

  test("a cancelled session asks for no further pass, and its KV is free", async () => {
    const { client } = cluster
    const seen: Array<"pass" | "abort" | "cancel"> = []
    const commands = codec("pass command", PassCommand)
    const controls = codec("group control", GroupControl)
    const generation = await client.generate(LONG)
    const { session } = generation
    const isOurs = (message: object) => "session" in message && message.session === session
    const passes = client.connection.subscribe(groupSubjects({ deployment: "*", epoch: 1, group: "*" }).pass, {
      callback: (_, { data }) => void (isOurs(Result.getOrThrow(commands.decode(data))) && seen.push("pass")),
    })
    const aborts = client.connection.subscribe(groupSubjects({ deployment: "*", epoch: 1, group: "*" }).control, {
      callback: (_, { data }) => void (isOurs(Result.getOrThrow(controls.decode(data))) && seen.push("abort")),
    })
    const cancels = client.connection.subscribe(subjects.cancel(session), { callback: () => void seen.push("cancel") })
    await untilTokens(generation, 3)
    generation.cancel()
    const { finishReason } = await generation.ending()
    expect(finishReason).toBe("cancelled")
    await everyRankIsFree(cluster)
    await client.connection.flush()
    for (const subscription of [passes, aborts, cancels]) subscription.unsubscribe()
    const after = seen.slice(seen.indexOf("cancel") + 1)
    expect(after.filter((kind) => kind === "abort")).toHaveLength(2) // to the base and to the draft
    expect(after.indexOf("abort")).toBeLessThanOrEqual(1) // after the pass that the cancel has crossed, if any
    expect(after.lastIndexOf("pass")).toBeLessThan(after.indexOf("abort"))
  })

  test("a stream is read from its start, from a position, and live, by as many as like, also when it is over", async () => {
    const { client } = cluster
    const generation = await client.generate({ ...LONG, maxTokens: 120 })
    const { session } = generation
    const fromStart = client.stream(session).ending()
    const first = await untilTokens(generation, 5)
    const live = await collect(client.stream(session, { from: "live" }))
    const whole = await fromStart
    expect(first).toEqual(whole.tokens.slice(0, 5))
    expect(whole.tokens).toHaveLength(120)
    expect(live).toEqual(whole.tokens.slice(120 - live.length))
    for (const from of [0, 1, 7, 119, 120, 500]) {
      expect(await collect(client.stream(session, { from }))).toEqual(whole.tokens.slice(from))
    }
    expect(await client.stream(session, { from: "live" }).ending()).toMatchObject({
      ...{ tokens: [], finishReason: "length" },
    })
    expect((await generation.ending()).tokens).toEqual(whole.tokens) // the first reader, after a pause
  })

  test("a session that never was, or whose retention is over, is said to be expired at once", async () => {
    const { client } = cluster
    const unknown = { _tag: "SessionExpired", session: "nobody" }
    await expect(client.stream("nobody").ending()).rejects.toMatchObject(unknown)
    await expect(client.stream("nobody", { from: "live" }).ending()).rejects.toMatchObject(unknown)
    const { session, tokens } = await client.complete(SHORT)
    const { purge } = await streamOf(cluster)
    await purge(subjects.tokens(session), 2) // its beginning is gone; its end is there
    await expect(collect(client.stream(session))).rejects.toMatchObject({ _tag: "SessionExpired", session })
    const { text } = await client.stream(session, { from: tokens.length }).ending()
    expect(text).toBe("")
    await purge(subjects.tokens(session))
    await expect(client.stream(session).ending()).rejects.toMatchObject({ _tag: "SessionExpired", session })
  })

  test("leaving a stream leaves the session alone; a signal of the generation ends it", async () => {
    const { client } = cluster
    const generation = await client.generate({ ...LONG, maxTokens: 60 })
    const leaving = new AbortController()
    const reading = client.stream(generation.session, { signal: leaving.signal })
    const left = collect(reading)
    leaving.abort(new Error("enough"))
    await expect(left).rejects.toThrow("enough")
    for await (const _ of client.stream(generation.session)) break
    expect((await generation.ending()).finishReason).toBe("length")
    const cancelling = new AbortController()
    const completing = client.complete(LONG, { signal: cancelling.signal })
    cancelling.abort()
    expect(["cancelled"]).toContain((await completing.catch(({ name }) => ({ finishReason: name }))).finishReason)
    await expect(client.complete(LONG, { signal: AbortSignal.abort() })).rejects.toThrow(/aborted/)
    await everyRankIsFree(cluster)
  })

  test("models are those that supervisors serve", async () => {
    expect(await cluster.client.models()).toEqual([
      {
        ...{ deployment: "test", model: expect.any(String), context: 512, base: "single x 1", draft: "layer x 2" },
        ...{ deterministic: true, supervisors: 1 },
      },
    ])
    const nobody = cluster.client.of("nobody")
    await expect(nobody.complete(SHORT)).rejects.toMatchObject({ _tag: "NotServed", deployment: "nobody" })
  })

  test("as an Effect service: streams, typed failures, interruption that cancels", async () => {
    const layer = Chorus.layer({ url: cluster.local.url, keys: cluster.local.keys, deployment: "test" })
    const { tokens } = await cluster.generate(SHORT)
    const program = Effect.gen(function* () {
      const chorus = yield* Chorus
      const streamed = yield* Stream.runCollect(chorus.tokens(SHORT))
      expect(idsOf(streamed)).toEqual(tokens)
      const { session, ending } = yield* chorus.generate(SHORT)
      expect((yield* ending).tokens).toEqual(tokens)
      expect(idsOf(yield* Stream.runCollect(chorus.stream(session, { from: 20 })))).toEqual(tokens.slice(20))
      expect(yield* Effect.flip(chorus.complete({ prompt: "a", topP: 2 }))).toMatchObject({ _tag: "InvalidRequest" })
      expect(yield* Effect.flip(Stream.runDrain(chorus.stream("x")))).toMatchObject({ _tag: "SessionExpired" })
      expect(yield* chorus.models).toHaveLength(1)
      const ended = endOf(cluster)
      yield* Stream.runDrain(Stream.take(chorus.tokens(LONG), 3)) // left early, so cancelled
      expect((yield* Effect.promise(() => ended)).finishReason).toBe("cancelled")
      const second = endOf(cluster)
      const began = beginOf(cluster)
      const fiber = yield* Effect.forkChild(chorus.complete(LONG))
      yield* Effect.promise(() => began)
      yield* Fiber.interrupt(fiber)
      expect((yield* Effect.promise(() => second)).finishReason).toBe("cancelled")
    })
    await Effect.runPromise(Effect.provide(program, layer))
    await everyRankIsFree(cluster)
  })

  test("requests by other libraries' integers: a seed in one byte, a number in eight", async () => {
    const message = Buffer.concat([
      Buffer.from([0x84]), // a map of four
      ...[text("prompt"), text(PROMPT), text("seed"), Buffer.from([5])],
      ...[text("maxTokens"), Buffer.from([0xcf, 0, 0, 0, 0, 0, 0, 0, 4]), text("temperature"), Buffer.from([1])],
    ])
    const { data } = await cluster.client.connection.request(subjects.infer, message, { timeout: 10_000 })
    const answer = Result.getOrThrow(answers.decode(data))
    expect(answer).toMatchObject({ _tag: "Answered", seed: 5n })
    const { tokens } = await cluster.generate({ prompt: PROMPT, seed: 5n, maxTokens: 4, temperature: 1 })
    expect(answer).toMatchObject({ tokens })
  })
})

describe("when nats-server restarts", () => {
  test("an iteration goes on without loss or double, and a whole answer comes", async () => {
    const folder = await mkdtemp(join(tmpdir(), "chorus-test-"))
    let server = await ownServer({ folder })
    try {
      const port = Number(new URL(server.running.url).port)
      await using cluster = await Cluster.start({ nats: server.running.url })
      const { client } = cluster
      const { tokens } = await client.complete({ ...LONG, maxTokens: 80 })
      const completing = client.complete({ ...LONG, maxTokens: 80 })
      const generation = await client.generate({ ...LONG, maxTokens: 80, interestMillis: 1000 })
      const seen = await untilTokens(generation, 4)
      await server.stop()
      server = await ownServer({ folder, port })
      for await (const { id } of generation) if (id >= 0) seen.push(id)
      expect(seen).toEqual(tokens)
      expect((await completing).tokens).toEqual(tokens)
      const { finishReason } = await generation.ending()
      expect(finishReason).toBe("length")
      const reading = collect(client.stream(generation.session, { from: 40 }))
      expect(await reading).toEqual(tokens.slice(40))
      await client.close()
      await expect(client.complete(LONG)).rejects.toMatchObject({ _tag: "Disconnected" })
    } finally {
      await server.stop()
      await rm(folder, { recursive: true })
    }
  })

  test("a server that is not there is named", async () => {
    const url = "nats://127.0.0.1:1"
    await expect(connect({ url, deployment: "test" })).rejects.toMatchObject({ _tag: "Disconnected", url })
  })
})

const text = (value: string): Buffer => Buffer.concat([Buffer.from([0xa0 + value.length]), Buffer.from(value)])

const idsOf = (tokens: ReadonlyArray<LoggedToken>) => tokens.map(({ id }) => id).filter((id) => id >= 0)

const collect = async (reading: AsyncIterable<LoggedToken>): Promise<ReadonlyArray<number>> => {
  const tokens: Array<LoggedToken> = []
  for await (const token of reading) tokens.push(token)
  return idsOf(tokens)
}

/** Reads this many tokens, and no further. */
const untilTokens = async (generation: Generation, count: number): Promise<Array<number>> => {
  const seen: Array<number> = []
  const tokens = generation[Symbol.asyncIterator]()
  while (seen.length < count) {
    const next = await tokens.next()
    if (next.done) break
    seen.push(next.value.id)
  }
  return seen
}

/** The next entry of a kind in any session's log. */
const nextEntry = <Tag extends LogEntry["_tag"]>(cluster: Cluster, tag: Tag) =>
  new Promise<Extract<LogEntry, { readonly _tag: Tag }>>((resolve) => {
    const isIt = (entry: LogEntry): entry is Extract<LogEntry, { readonly _tag: Tag }> => entry._tag === tag
    const subscription = cluster.client.connection.subscribe(subjects.tokens("*"), {
      callback: (_, { data }) => {
        const entry = Result.getOrThrow(entries.decode(data))
        if (!isIt(entry)) return
        subscription.unsubscribe()
        resolve(entry)
      },
    })
  })
const endOf = (cluster: Cluster) => nextEntry(cluster, "End")
const beginOf = (cluster: Cluster) => nextEntry(cluster, "Begin")

/** Waits until every rank's beat says that it holds no session. */
const everyRankIsFree = async ({ client }: Cluster): Promise<void> => {
  const beats = codec("rank beat", RankBeat)
  const free = new Set<string>()
  for await (const { data, subject } of client.connection.subscribe(subjects.beats)) {
    const beat = beats.decode(data)
    if (Result.isFailure(beat)) continue
    if (beat.success.sessions === 0 && beat.success.bytesOfKv === 0) free.add(subject)
    else free.delete(subject)
    if (free.size === 3) return
  }
}

const streamOf = async ({ client }: Cluster) => {
  const { jetstreamManager } = await import("@nats-io/jetstream")
  const { TOKEN_STREAM } = await import("../../../src/wire/subjects.ts")
  const { streams } = await jetstreamManager(client.connection)
  return {
    /** As retention would; `keep` entries stay. */
    purge: (filter: string, keep = 0) => streams.purge(TOKEN_STREAM, keep === 0 ? { filter } : { filter, keep }),
  }
}

const ownServer = async (options: { readonly folder: string; readonly port?: number }) => {
  const scope = Scope.makeUnsafe()
  const running: RunningServer = await Effect.runPromise(Scope.provide(startServer(options), scope))
  return { running, stop: () => Effect.runPromise(Scope.close(scope, Exit.void)) }
}
