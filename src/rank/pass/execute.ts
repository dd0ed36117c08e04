// A command, from the checks to the answer, over any strategy. Every rank of the group runs this; the leader has the answer.
import { Effect } from "effect"
import type { Segment, StretchResult } from "../../../native/index.ts"
import type { Exchange } from "../../group/exchange.ts"
import { hopOf, positionOf, slotAt } from "../../speculation/indices.ts"
import {
  type Decode,
  type PassAnswer,
  type PassCommand,
  type Prefill,
  type RowLogProbs,
  sessionsOf,
  type Verify,
} from "../../wire/pass.ts"
import { chain } from "../device/chain.ts"
import { draft } from "../strategy/draftLoop.ts"
import { packFrontier, unpackFrontier } from "../strategy/frontier.ts"
import type { GroupLayout, Head, PassContext, RunError, Strategy } from "../strategy/strategy.ts"
import { type Meter, meter } from "./meter.ts"
import { type Member, type PrepareError, prepare } from "./prepare.ts"

export interface RankContext extends Member {
  readonly layout: GroupLayout
  readonly strategy: Strategy
  readonly isEnd: (token: number) => boolean // of a generation
  readonly vocabulary: number // tokens that have a meaning: the model may have more rows, as padding
}

/** The answer on the leader, null on the others. */
export const execute = (
  rankContext: RankContext,
  exchange: Exchange,
  command: PassCommand,
): Effect.Effect<PassAnswer | null, PrepareError | RunError> =>
  Effect.gen(function* () {
    const cost = meter(exchange)
    const context = courseOf(rankContext, exchange, cost, command)
    yield* prepare(rankContext, command)
    switch (command._tag) {
      case "Prefill":
        return yield* prefill(rankContext.strategy, context, command, cost)
      case "Decode":
        return yield* decode(rankContext, context, command, cost)
      case "Verify":
        return yield* verify(rankContext.strategy, context, command, cost)
      case "Draft":
        return yield* draft(rankContext.strategy, context, command, cost)
    }
  })

const courseOf = (rankContext: RankContext, exchange: Exchange, cost: Meter, command: PassCommand): PassContext => ({
  sessions: sessionsOf(command).map(({ session }) => session),
  layout: rankContext.layout,
  compute: rankContext.compute,
  exchange,
  computed: cost.computed,
  vocabulary: rankContext.vocabulary,
})

const prefill = Effect.fnUntraced(function* (strategy: Strategy, context: PassContext, command: Prefill, cost: Meter) {
  const told = command.tokens.length > 0 ? yield* commitChain(strategy, context, command) : null
  if (!leads(strategy, context)) return null
  const logProbs = logProbsOf(command.scored?.alternatives, told === null ? [] : [told])
  return { _tag: "Prefilled", pass: command.pass, ...logProbs, cost: cost.read() } as const
})

/** Every rank runs every step, so after each but the last the leader tells the others what it chose. */
const decode = Effect.fnUntraced(function* (
  { strategy, isEnd }: RankContext,
  context: PassContext,
  command: Decode,
  cost: Meter,
) {
  const { session, committed, steps } = command
  const tokens: Array<number> = []
  const told: Array<StretchResult> = []
  const head = { op: "head", rows: Int32Array.of(0), want: "tokens", top: command.logprobs ?? 0 } as const
  for (let token = command.token; ; ) {
    const slot = committed + tokens.length
    const result = yield* strategy.exact(context, [chain(session, positionOf(slot), [token])], head)
    yield* context.compute.commit(session, Int32Array.of(slot))
    const chosen = result?.tokens?.[0] ?? null
    if (result !== null) told.push(result)
    const last = tokens.length + 1 === steps
    token = last ? (chosen ?? 0) : yield* tell(strategy, context, chosen)
    tokens.push(token)
    if (last || isEnd(token)) break
  }
  if (!leads(strategy, context)) return null
  return {
    _tag: "Decoded",
    pass: command.pass,
    tokens,
    ...logProbsOf(command.logprobs, told),
    cost: cost.read(),
  } as const
})

/** What the log-probabilities of a command's rows add to its answer; nothing where none were asked for. */
const logProbsOf = (
  logprobs: number | undefined,
  results: ReadonlyArray<StretchResult>,
): { logProbs?: RowLogProbs } => {
  if (logprobs === undefined) return {}
  return {
    logProbs: {
      chosen: results.flatMap(({ logProbs }) => Array.from(logProbs ?? [])),
      tokens: results.flatMap(({ topTokens }) => Array.from(topTokens ?? [])),
      logProbs: results.flatMap(({ topLogProbs }) => Array.from(topLogProbs ?? [])),
    },
  }
}

/** From the leader to the others, one hop; what a frontier of one row is packed as. */
const tell = Effect.fnUntraced(function* (strategy: Strategy, { layout, exchange }: PassContext, token: number | null) {
  if (layout.ranks === 1) return token ?? 0
  const packed = packFrontier([""], [{ session: "", tokens: Int32Array.of(token ?? 0), parents: Int32Array.of(-1) }])
  if (leads(strategy, { layout })) {
    yield* exchange.send(hopOf(1), "all", { tokens: 0, width: layout.width, blocks: [], nodes: packed })
    exchange.advance(1)
    return token ?? 0
  }
  const { nodes } = yield* exchange.receive(hopOf(1), strategy.leader(layout.ranks))
  exchange.advance(1)
  return unpackFrontier([""], nodes)[0]?.tokens[0] ?? 0
})

const verify = Effect.fnUntraced(function* (strategy: Strategy, context: PassContext, command: Verify, cost: Meter) {
  const rows: Segment = {
    session: command.session,
    tokens: Int32Array.from(command.tokens),
    parents: Int32Array.from(command.parents, (parent) => slotAt(command.committed + parent)), // row 0's: the last committed slot
  }
  const all = Int32Array.from(command.tokens.keys())
  const head = { op: "head", rows: all, want: "tokens", top: command.logprobs ?? 0 } as const
  const result = yield* strategy.exact(context, [rows], head)
  if (!leads(strategy, context)) return null
  const choices = Array.from(result?.tokens ?? [])
  const logProbs = logProbsOf(command.logprobs, result === null ? [] : [result])
  return { _tag: "Verified", pass: command.pass, choices, ...logProbs, cost: cost.read() } as const
})

const commitChain = Effect.fnUntraced(function* (
  strategy: Strategy,
  context: PassContext,
  { session, committed, tokens, scored }: Prefill,
) {
  const head: Head | null =
    scored === undefined
      ? null
      : {
          ...{ op: "head", want: "tokens", rows: Int32Array.from(tokens.keys()) },
          ...{ top: scored.alternatives, given: Int32Array.from([...tokens.slice(1), scored.following]) },
        }
  const result = yield* strategy.exact(context, [chain(session, positionOf(committed), tokens)], head)
  yield* context.compute.commit(
    session,
    Int32Array.from(tokens, (_, row) => committed + row),
  )
  return result
})

const leads = (strategy: Strategy, { layout }: Pick<PassContext, "layout">): boolean =>
  strategy.leader(layout.ranks) === layout.rank
