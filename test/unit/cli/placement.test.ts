// From options to a deployment and a request: defaults, and combinations that make no sense.
import { expect, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import {
  DEMO_PAIR,
  deploymentOf,
  noPlacement,
  type PlacementFlags,
  type Plan,
  placementGiven,
} from "../../../src/cli/placement.ts"
import { type RequestFlags, requestOf } from "../../../src/cli/request.ts"

const plan: Plan = { name: "d", speculation: true, fuzzy: Option.none(), context: 512, cores: 4 }

const noSampling: RequestFlags = {
  "add-special-tokens": Option.none(),
  "max-tokens": Option.none(),
  temperature: Option.none(),
  "top-k": Option.none(),
  "top-p": Option.none(),
  "min-p": Option.none(),
  "repetition-penalty": Option.none(),
  "presence-penalty": Option.none(),
  "frequency-penalty": Option.none(),
  "logit-bias": [],
  "min-tokens": Option.none(),
  "ignore-eos": false,
  seed: Option.none(),
  stop: [],
  speculation: Option.none(),
  tree: Option.none(),
  fuzzy: Option.none(),
}
const hello = { text: "hello", chat: false }

it.effect("is the demo pair by default, on one base rank and two draft ranks", () =>
  Effect.gen(function* () {
    const deployment = yield* deploymentOf(noPlacement, plan)
    expect(deployment).toEqual({
      name: "d",
      base: { name: "base", model: DEMO_PAIR.base, strategy: "single", ranks: 1, threads: 4, device: "auto" },
      draft: { name: "draft", model: DEMO_PAIR.draft, strategy: "layer", ranks: 2, threads: 2, device: "auto" },
      fuzzy: 4,
      deterministic: true,
      context: 512,
    })
  }),
)

it.effect("has no draft for another base, nor without speculation", () =>
  Effect.gen(function* () {
    const own = yield* deploymentOf({ ...noPlacement, base: Option.some("/m") }, plan)
    expect([own.base.model, own.draft]).toEqual(["/m", null])
    expect((yield* deploymentOf(noPlacement, { ...plan, speculation: false })).draft).toBeNull()
    const both = yield* deploymentOf({ ...noPlacement, base: Option.some("/m"), draft: Option.some("/d") }, plan)
    expect(both.draft).toMatchObject({ model: "/d", strategy: "single", ranks: 1, threads: 4 })
    const layers = { base: Option.some("/m"), draft: Option.some("/d"), strategy: Option.some("layer" as const) }
    const split = yield* deploymentOf({ ...noPlacement, ...layers }, plan)
    expect(split.draft).toMatchObject({ strategy: "layer", ranks: 2, threads: 2 })
  }),
)

it.effect("divides the cores by the ranks of a group, and gives each rank one at least", () =>
  Effect.gen(function* () {
    const many = yield* deploymentOf(
      { ...noPlacement, "base-ranks": Option.some(3), "draft-ranks": Option.some(8) },
      plan,
    )
    expect([many.base.threads, many.draft?.threads]).toEqual([1, 1])
    const said = yield* deploymentOf({ ...noPlacement, threads: Option.some(7) }, plan)
    expect([said.base.threads, said.draft?.threads]).toEqual([7, 7])
  }),
)

it.effect("splits groups of several ranks only", () =>
  Effect.gen(function* () {
    const strategies = (flags: Partial<PlacementFlags>) =>
      Effect.map(deploymentOf({ ...noPlacement, ...flags }, plan), ({ base, draft }) => [
        base.strategy,
        draft?.strategy,
      ])
    expect(yield* strategies({ strategy: Option.some("pipeline") })).toEqual(["single", "pipeline"])
    expect(yield* strategies({ "base-ranks": Option.some(2) })).toEqual(["pipeline", "layer"])
    const layers = { "base-ranks": Option.some(2), strategy: Option.some("layer" as const) }
    expect(yield* strategies(layers)).toEqual(["layer", "layer"])
    expect(yield* strategies({ strategy: Option.some("single") })).toEqual(["single", "single"])
    const error = yield* Effect.flip(strategies({ strategy: Option.some("single"), "draft-ranks": Option.some(2) }))
    expect(error.message).toBe("--strategy single is for one rank, --draft-ranks asks for 2")
  }),
)

it("knows which options are for ranks that the command starts", () => {
  expect(placementGiven(noPlacement)).toEqual([])
  expect(placementGiven({ ...noPlacement, threads: Option.some(1), deterministic: Option.some(true) })).toEqual([
    "--threads",
    "--deterministic",
  ])
})

it.effect("asks for what was given and leaves out the rest", () =>
  Effect.gen(function* () {
    expect(yield* requestOf(noSampling, hello, true)).toEqual({ prompt: "hello" })
    const tree = { depth: 5, width: 4, nodes: 16 }
    const flags = {
      ...noSampling,
      seed: Option.some(7n),
      "top-k": Option.some(3),
      stop: ["."],
      tree: Option.some(tree),
    }
    expect(yield* requestOf(flags, { text: "hello", chat: true }, true)).toEqual({
      messages: [{ role: "user", content: "hello" }],
      seed: 7n,
      topK: 3,
      stop: ["."],
      speculation: tree,
    })
  }),
)

it.effect("decodes plainly without a draft or with --no-speculation, and refuses a tree then", () =>
  Effect.gen(function* () {
    const plain = { ...noSampling, speculation: Option.some(false) }
    expect(yield* requestOf(noSampling, hello, false)).toEqual({ prompt: "hello", speculation: "none" })
    expect(yield* requestOf(plain, hello, true)).toEqual({ prompt: "hello", speculation: "none" })
    const tree = Option.some({ depth: 1, width: 1, nodes: 1 })
    expect((yield* Effect.flip(requestOf({ ...plain, tree }, hello, true))).message).toMatch(
      /--tree and --no-speculation/,
    )
    expect((yield* Effect.flip(requestOf({ ...noSampling, tree }, hello, false))).message).toMatch(/--draft/)
  }),
)
