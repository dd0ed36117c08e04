// KV from group to group: the ranks of one ask those of the other, and say so where they cannot have it.
import { afterAll, beforeAll, expect, test } from "vitest"
import { GREEDY } from "../../src/wire/pass.ts"
import { RankGroup, Server } from "./rankGroup.ts"

const PROMPT = Array.from({ length: 200 }, (_, i) => (i * i * 31 + 17 * i + 5) % 4000)
const HELD = PROMPT.length - 1
const SOURCE = { epoch: 1, group: "base" }

let server: Server
let source: RankGroup
beforeAll(async () => {
  server = await Server.start()
  source = await start("pipeline", SOURCE.epoch)
})
afterAll(async () => {
  await source[Symbol.asyncDispose]()
  await server[Symbol.asyncDispose]()
})

const start = (strategy: "pipeline" | "layer", epoch: number) =>
  RankGroup.start(server, { name: "moving", model: "models/demo/draft", strategy, ranks: 2, epoch })

/** The first pass of a session whose KV the source has. */
const begin = (group: RankGroup, session: string, committed: number) =>
  group.command({
    ...{ _tag: "Prefill", session, ...group.next(), committed, from: session, source: SOURCE },
    ...{ tokens: [], sampling: GREEDY },
  })

/** The tokens after the prompt, of a session that has KV for all but its last one. */
const goOn = async (group: RankGroup, session: string): Promise<ReadonlyArray<number>> => {
  const rest = { committed: HELD, acceptedRows: [], token: PROMPT[HELD] ?? 0, steps: 6 }
  return (await group.decode(session, rest)).tokens
}

test("a group of the same shape goes on with the same tokens, and the source has not lost the session", async () => {
  await using target = await start("pipeline", 2)
  await source.prefill("s", PROMPT.slice(0, HELD))
  expect(await begin(target, "s", HELD)).toMatchObject({ _tag: "Prefilled" })
  const tokens = await goOn(target, "s")
  expect(tokens).toEqual(await goOn(source, "s"))
})

test("a group of another shape gets nothing, nor does one that asks for more than there is", async () => {
  await using other = await start("layer", 3)
  await source.prefill("t", PROMPT.slice(0, HELD))
  for (const [session, committed] of [
    ["t", HELD],
    ["nobody", HELD],
  ] as const) {
    const error = { _tag: "UnknownSession", session, expected: committed, actual: -1 }
    expect(await begin(other, session, committed)).toMatchObject({ _tag: "Refused", error })
  }
  await using same = await start("pipeline", 4)
  expect(await begin(same, "t", HELD + 1)).toMatchObject({ _tag: "Refused", error: { _tag: "UnknownSession" } })
  expect(await begin(same, "t", HELD)).toMatchObject({ _tag: "Prefilled" }) // it is there all the same
})
