// What a deployment whose server has users lets its clients do, and the ways around: wildcards in what a supervisor is asked,
// answers that are to go where their receiver may not write. Every act as every role is in permissions.test.ts.
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { jetstreamManager } from "@nats-io/jetstream"
import { Result } from "effect"
import { Packr } from "msgpackr"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { inboxOf } from "../../../src/bus/dial.ts"
import { connect } from "../../../src/client/index.ts"
import { codec } from "../../../src/wire/codec.ts"
import { ReadAnswer, ReadRequest } from "../../../src/wire/read.ts"
import { subjectsOf } from "../../../src/wire/subjects.ts"
import type { Cluster } from "../cluster.ts"
import { PROMPT } from "../requests.ts"
import { oneCluster } from "./cluster.ts"

/** msgpack of what no schema has. */
const loosely = new Packr({ useRecords: false })

describe("a deployment whose server has users", () => {
  const requests = codec("read request", ReadRequest)
  const answers = codec("read answer", ReadAnswer)
  const REQUEST = { prompt: PROMPT, maxTokens: 12 } as const
  let cluster: Cluster
  let client: Awaited<ReturnType<typeof connect>>
  beforeAll(async () => {
    cluster = await oneCluster()
    client = await connect({ url: cluster.local.url, keys: cluster.local.keys, deployment: "test" })
  })
  afterAll(async () => {
    await client?.close()
  })

  test("answers a client, sends it the session that it names, and cancels it", async () => {
    const { tokens, session } = await client.complete(REQUEST)
    expect(tokens).toHaveLength(12)
    expect((await client.stream(session).ending()).tokens).toEqual(tokens)
    const long = await client.generate({ ...REQUEST, maxTokens: 400 })
    for await (const _ of long) long.cancel()
    expect((await long.ending()).finishReason).toBe("cancelled")
  })

  test("reads nothing to a client that names no session, and sends to inboxes only", async () => {
    const { connection } = client
    const { session } = await client.complete(REQUEST)
    const ask = async (request: object): Promise<ReadAnswer> => {
      const body = requests.encode({ _tag: "Look", session })
      const message = Object.keys(request).length === 0 ? body : loosely.pack(request)
      const { data } = await connection.request(subjectsOf("test").read, message, { timeout: 5_000 })
      return Result.getOrThrow(answers.decode(data))
    }
    expect(await ask({})).toMatchObject({ _tag: "Looked", first: { entry: { _tag: "Begin" } } })
    const to = inboxOf(connection)
    for (const name of ["*", ">", "", `${session}.x`]) {
      expect(await ask({ _tag: "Look", session: name })).toMatchObject({ _tag: "NotRead" })
      expect(await ask({ _tag: "Follow", session: name, after: 0, to })).toMatchObject({ _tag: "NotRead" })
    }
    for (const elsewhere of [
      subjectsOf("test").tokens(session),
      "$KV.chorus_replicas.test",
      "_INBOX.>",
      "_INBOX.*.x",
    ]) {
      expect(await ask({ _tag: "Follow", session, after: 0, to: elsewhere })).toMatchObject({ _tag: "NotRead" })
    }
  })

  test("answers no request that wants the answer written where only supervisors write", async () => {
    const manager = await jetstreamManager(cluster.client.connection)
    const { session } = await client.complete(REQUEST)
    const log = subjectsOf("test").tokens(session)
    const before = await manager.streams.info("CHORUS_TOKENS", { subjects_filter: log })
    for (const subject of [subjectsOf("test").infer, subjectsOf("test").read, "$SRV.INFO.chorus-infer"]) {
      client.connection.publish(subject, requests.encode({ _tag: "Look", session }), { reply: log })
    }
    await client.complete(REQUEST) // whatever was asked before has been answered
    const after = await manager.streams.info("CHORUS_TOKENS", { subjects_filter: log })
    expect(after.state.subjects).toEqual(before.state.subjects)
  })

  test("a rank's process has its rank's key, and no other", () => {
    const [pid] = cluster.local.pids.base
    const variables = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0")
    const ours = variables.filter((variable) => /^CHORUS_NATS_|^CHORUS_API/.test(variable) && !variable.endsWith("="))
    expect(ours).toEqual([`CHORUS_NATS_KEY=${join(cluster.local.keys ?? "", "host/rank-test.nk")}`])
  })
})
