// Traced sessions: what is said of each drafting iteration fits the token log, and nothing is said of sessions that did not
// ask for it. Beats say how long a rank's device has computed.
import { Result } from "effect"
import { beforeAll, expect, test } from "vitest"
import { traces } from "../../../src/bus/traces.ts"
import { follow } from "../../../src/store/logReader.ts"
import { RankBeat } from "../../../src/wire/beat.ts"
import { codec } from "../../../src/wire/codec.ts"
import type { InferRequest, LogEntry } from "../../../src/wire/infer.ts"
import { groupSubjects, subjectsOf } from "../../../src/wire/subjects.ts"
import type { IterationTrace } from "../../../src/wire/trace.ts"
import type { Cluster } from "../cluster.ts"
import { PROMPT, TREE } from "../requests.ts"
import { oneCluster } from "./cluster.ts"

const REQUEST: InferRequest = {
  ...{ prompt: PROMPT, maxTokens: 24, seed: 3n, temperature: 0.5 },
  speculation: TREE,
}
const subjects = subjectsOf("test")

let cluster: Cluster
beforeAll(async () => {
  cluster = await oneCluster()
})

/** What is said while a request runs, and its log. */
const watch = async (request: InferRequest) => {
  const { connection } = cluster.client
  const said: Array<IterationTrace> = []
  const subscription = connection.subscribe(subjects.trace("*"), {
    callback: (_, { data }) => void said.push(Result.getOrThrow(traces.decode(data))),
  })
  const { session } = await cluster.client.generate(request)
  const entries: Array<LogEntry> = []
  for await (const { entry } of follow(connection, subjects.tokens(session))) entries.push(entry)
  await connection.flush() // the supervisor said its last word before it wrote the end
  subscription.unsubscribe()
  return { said, entries }
}

test("each drafting iteration of a traced session says its tree, and the accepted path is what the log has", async () => {
  const { said, entries } = await watch({ ...REQUEST, trace: true })
  const drafted = entries.flatMap((entry) =>
    entry._tag === "Tokens" && entry.tokens.some(({ origin }) => origin !== "plain") // the last one may be decoded alone
      ? [{ at: entry.at, ids: entry.tokens.map(({ id }) => id) }]
      : [],
  )
  expect(said.map(({ at }) => at)).toEqual(drafted.map(({ at }) => at))
  for (const [i, { tokens, parents, logProbs, path }] of said.entries()) {
    expect(tokens.length).toBeGreaterThan(0)
    expect([parents.length, logProbs.length]).toEqual([tokens.length, tokens.length])
    expect(parents.every((parent, node) => parent >= -1 && parent < node)).toBe(true)
    expect(path.map((node) => parents[node])).toEqual([-1, ...path.slice(0, -1)].slice(0, path.length))
    const { ids = [] } = drafted[i] ?? {} // the answer may end in the middle of a path
    expect(path.map((node) => tokens[node]?.id).slice(0, ids.length)).toEqual(ids.slice(0, path.length))
  }
})

test("a session that did not ask says nothing, and has the same tokens", async () => {
  const traced = await watch({ ...REQUEST, trace: true })
  const untraced = await watch(REQUEST)
  expect(untraced.said).toEqual([])
  expect(idsOf(untraced.entries)).toEqual(idsOf(traced.entries))
})

const idsOf = (entries: ReadonlyArray<LogEntry>) =>
  entries.flatMap((entry) => (entry._tag === "Tokens" ? entry.tokens.map(({ id }) => id) : []))

test("a beat counts the time that its rank's device has computed", async () => {
  const beats = codec("rank beat", RankBeat)
  const subscription = cluster.client.connection.subscribe(
    groupSubjects({ deployment: "test", epoch: 1, group: "base" }).beat(0),
  )
  const heard = subscription[Symbol.asyncIterator]()
  const beat = async (): Promise<number> =>
    Result.getOrThrow(beats.decode((await heard.next()).value?.data ?? new Uint8Array())).computeMillis
  const before = await beat()
  await cluster.generate(REQUEST)
  while ((await beat()) <= before); // a beat is at most 250 ms old
  subscription.unsubscribe()
})
