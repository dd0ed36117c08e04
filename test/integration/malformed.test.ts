// Thousands of malformed messages, to every subject that has a listener. A request gets a typed error; no process restarts,
// memory stays level, and what is asked properly afterwards is answered as before.
import { readFileSync } from "node:fs"
import type { NatsConnection } from "@nats-io/transport-node"
import { Result } from "effect"
import fc from "fast-check"
import { Packr } from "msgpackr"
import { afterAll, beforeAll, expect, test } from "vitest"
import { accessOf } from "../../src/bus/access.ts"
import { dial } from "../../src/bus/dial.ts"
import { RankBeat } from "../../src/wire/beat.ts"
import { codec } from "../../src/wire/codec.ts"
import { InferAnswer, InferRequest } from "../../src/wire/infer.ts"
import { PassAnswer } from "../../src/wire/pass.ts"
import { groupSubjects, subjectsOf } from "../../src/wire/subjects.ts"
import { Cluster } from "./cluster.ts"
import { SAMPLED, TREE } from "./requests.ts"

const MESSAGES_A_RUN = 12
const RUNS = 450 // 5,400 messages
const MORE_MEMORY = 64 * 2 ** 20 // bytes that a process may have more afterwards: its heap breathes

const subjects = subjectsOf("test")
const base = groupSubjects({ deployment: "test", epoch: 1, group: "base" })
const draft = groupSubjects({ deployment: "test", epoch: 1, group: "draft" })
const answers = codec("infer answer", InferAnswer)
const passAnswers = codec("pass answer", PassAnswer)
const packr = new Packr({ useRecords: false, variableMapSize: true })

const REQUEST: InferRequest = {
  ...SAMPLED,
  maxTokens: 12,
  speculation: TREE,
}

let cluster: Cluster
let supervisor: NatsConnection // ranks may answer to the inboxes of supervisors and operators only
beforeAll(async () => {
  cluster = await Cluster.start()
  supervisor = await dial({ url: cluster.local.url, access: accessOf("supervisor", cluster.local.keys, {}) })
})
afterAll(async () => {
  await supervisor.close()
  await cluster[Symbol.asyncDispose]()
})

/** The subjects that answer, and whether what came is an answer. */
const asked: Readonly<Record<string, (reply: Uint8Array) => boolean>> = {
  [subjects.infer]: (reply) => {
    const answer = Result.getOrThrow(answers.decode(reply))
    return answer._tag === "Refused" || answer._tag === "Answered" // a changed byte may still be a request
  },
  [base.pass]: (reply) => Result.getOrThrow(passAnswers.decode(reply))._tag === "Refused",
  [draft.pass]: (reply) => Result.getOrThrow(passAnswers.decode(reply))._tag === "Refused",
}
const told = [
  ...[base.control, draft.control, subjects.cancel("x"), subjects.interest("x")],
  ...[draft.activations, draft.activation(0), draft.activation(1)],
  ...[base.activation(0), base.beat(0), subjects.beat("supervisor.x")],
]

interface Message {
  readonly subject: string
  readonly bytes: Uint8Array
}

/** Messages of a generation, by the subjects that they were sent to. */
const record = async (): Promise<ReadonlyArray<Message>> => {
  const { connection } = cluster.client
  const seen: Array<Message> = []
  const subscription = connection.subscribe("chorus.v1.test.>", {
    callback: (_, { subject, data }) => void seen.push({ subject, bytes: Uint8Array.from(data) }),
  })
  await cluster.generate(REQUEST)
  subscription.unsubscribe()
  const request = codec("infer request", InferRequest).encode({ ...REQUEST, maxTokens: 1 })
  return [...seen.filter(({ subject }) => !subject.includes(".infer")), { subject: subjects.infer, bytes: request }]
}

const repeated = (unit: ReadonlyArray<number>, times: number): Uint8Array =>
  Uint8Array.from({ length: unit.length * times }, (_, i) => unit[i % unit.length] ?? 0)

/** Whatever msgpack can say. */
const anything = fc.anything({ withBigInt: false, maxDepth: 4 }).map((value) => {
  try {
    return packr.pack(value)
  } catch {
    return packr.pack(String(value))
  }
})

const deep = fc
  .tuple(fc.constantFrom([0x91], [0x81, 0xa1, 0x61], [0x92, 0xc0]), fc.integer({ min: 10, max: 300_000 }))
  .map(([unit, times]) => repeated(unit, times))

const announced = fc
  .tuple(
    fc.constantFrom(0xdd, 0xdf, 0xdb, 0xc6, 0xc9, 0xdc, 0xde),
    fc.uint8Array({ minLength: 0, maxLength: 12 }),
    fc.constantFrom(0xff, 0x01, 0x7f),
  )
  .map(([first, rest, size]) => Uint8Array.from([first, size, size, size, size, ...rest]))

const SIZE = 1_000_000
const oversized = [
  packr.pack({ prompt: "x".repeat(SIZE) }),
  packr.pack({ tokens: Array.from({ length: SIZE }, () => null) }),
  packr.pack(Object.fromEntries(Array.from({ length: SIZE / 10 }, (_, i) => [`k${i}`, i]))),
  packr.pack({ _tag: "Release", session: "x".repeat(SIZE) }),
  new Uint8Array(SIZE),
]

/** A real message with something wrong with it. */
const spoilt = (real: ReadonlyArray<Uint8Array>): fc.Arbitrary<Uint8Array> =>
  fc
    .tuple(
      fc.constantFrom(...real),
      fc.nat(),
      fc.anything({ maxDepth: 2, withBigInt: false }),
      fc.integer({ max: 2, min: 0 }),
    )
    .map(([bytes, at, value, how]) => {
      if (how === 0) return bytes.subarray(0, at % bytes.byteLength)
      const fields = unpacked(bytes)
      const names = Object.keys(fields)
      const name = how === 1 ? "colour" : (names[at % names.length] ?? "colour")
      return packr.pack({ ...fields, [name]: how === 1 ? value : { wrong: [value] } })
    })

const unpacked = (bytes: Uint8Array): Record<string, unknown> => {
  try {
    const value: unknown = packr.unpack(bytes)
    return typeof value === "object" && value !== null ? { ...value } : {}
  } catch {
    return {} // an activation
  }
}

const kindOf = (subject: string): string => subject.replace(/tokens\..*|beat\..*|_INBOX.*/, "other")

const messages = (real: ReadonlyArray<Message>): fc.Arbitrary<Message> =>
  fc.constantFrom(...Object.keys(asked), ...told).chain((subject) => {
    const same = real.filter((one) => kindOf(one.subject) === kindOf(subject)).map(({ bytes }) => bytes)
    const bytes = fc.oneof(
      { weight: 3, arbitrary: fc.uint8Array({ maxLength: 400 }) },
      { weight: 3, arbitrary: anything },
      { weight: 1, arbitrary: deep },
      { weight: 2, arbitrary: announced },
      { weight: 6, arbitrary: spoilt(same.length > 0 ? same : real.map(({ bytes }) => bytes)) },
    )
    return bytes.map((bytes) => ({ subject, bytes }))
  })

const send = async ({ subject, bytes }: Message): Promise<void> => {
  const { connection } = cluster.client
  const isAnswer = asked[subject]
  if (isAnswer === undefined) return connection.publish(subject, bytes)
  const asker = subject === subjects.infer ? connection : supervisor
  const { data } = await asker.request(subject, bytes, { timeout: 20_000 })
  if (!isAnswer(data)) throw new Error(`${subject} answered ${JSON.stringify(packr.unpack(data))}`)
}

test("a generation after thousands of malformed messages gives its tokens, on the same processes", async () => {
  const { tokens } = await cluster.generate(REQUEST)
  const real = await record()
  const arbitrary = fc.array(messages(real), { minLength: MESSAGES_A_RUN, maxLength: MESSAGES_A_RUN })
  const property = fc.asyncProperty(arbitrary, async (batch) => void (await Promise.all(batch.map(send))))
  const flood = async (): Promise<void> => {
    for (const bytes of oversized) {
      for (const subject of [...Object.keys(asked), ...told]) await send({ subject, bytes })
    }
  }
  await fc.assert(property, { numRuns: 50, seed: 1, endOnFailure: true }) // what is compiled and cached once is there, and buffers have grown
  await flood()
  const before = await census()
  await fc.assert(property, { numRuns: RUNS, seed: 2, endOnFailure: true })
  await flood()
  expect((await cluster.generate(REQUEST)).tokens).toEqual(tokens)
  const after = await census()
  expect(after.actors).toEqual(before.actors)
  for (const [actor, bytes] of after.memory) {
    expect(bytes - (before.memory.get(actor) ?? 0), actor).toBeLessThan(MORE_MEMORY)
  }
})

/** The processes that are there, by what ranks and the supervisor say of themselves, and the memory of each. */
const census = async () => {
  const beats = codec("rank beat", RankBeat)
  const actors = new Map<string, string>()
  const memory = new Map<string, number>()
  for await (const { data } of cluster.client.connection.subscribe(subjects.beats)) {
    const beat = beats.decode(data)
    if (Result.isFailure(beat) || beat.success.state !== "ready") continue
    const { group, rank, pid, epoch, sessions, bytesOfKv } = beat.success
    if (sessions > 0) continue // the last generation is on its way out
    expect(bytesOfKv).toBe(0)
    const name = `rank ${rank} of ${group}`
    actors.set(name, `${pid}, epoch ${epoch}`)
    memory.set(name, residentBytes(pid))
    if (actors.size === 3) break
  }
  const { supervisor } = cluster.local.pids
  const info = await cluster.client.connection.request("$SRV.INFO.chorus-infer", "")
  actors.set("supervisor", info.json<{ metadata: { pid: string } }>().metadata.pid)
  memory.set("supervisor", residentBytes(supervisor))
  return { actors, memory }
}

const residentBytes = (pid: number): number => {
  const kilobytes = /^RssAnon:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]
  return Number(kilobytes) * 1024
}
