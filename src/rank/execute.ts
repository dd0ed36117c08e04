// A command, from the checks to the answer, over any strategy. Every rank of the group runs this; the leader has the answer.
import { Effect } from "effect"
import type { Segment } from "../../native/index.ts"
import type { Exchange } from "../fabric/peers.ts"
import type { Strategy as StrategyName } from "../wire/deployment.ts"
import type { PassAnswer, PassCommand, Prefill, Verify } from "../wire/pass.ts"
import { chain } from "./chain.ts"
import { draft } from "./draft.ts"
import { layer } from "./layer.ts"
import { type Meter, meter } from "./meter.ts"
import { pipeline } from "./pipeline.ts"
import { type Member, type PrepareError, prepare } from "./sessions.ts"
import { single } from "./single.ts"
import type { Course, Place, RunError, Strategy } from "./strategy.ts"

export const STRATEGIES: Readonly<Record<StrategyName, Strategy>> = { single, pipeline, layer }

export interface Crew extends Member {
  readonly place: Place
  readonly strategy: Strategy
  readonly vocabulary: number // tokens that have a meaning: the model may have more rows, as padding
}

/** The answer on the leader, null on the others. */
export const execute = (
  crew: Crew,
  exchange: Exchange,
  command: PassCommand,
): Effect.Effect<PassAnswer | null, PrepareError | RunError> =>
  Effect.gen(function* () {
    const cost = meter(exchange)
    const course: Course = {
      place: crew.place,
      compute: crew.compute,
      exchange,
      computed: cost.computed,
      vocabulary: crew.vocabulary,
    }
    yield* prepare(crew, command)
    switch (command._tag) {
      case "Prefill":
        return yield* prefill(crew.strategy, course, command, cost)
      case "Verify":
        return yield* verify(crew.strategy, course, command, cost)
      case "Draft":
        return yield* draft(crew.strategy, course, command, cost)
    }
  })

const prefill = Effect.fnUntraced(function* (strategy: Strategy, course: Course, command: Prefill, cost: Meter) {
  if (command.tokens.length > 0) yield* commitChain(strategy, course, command, command.tokens)
  return leads(strategy, course) ? ({ _tag: "Prefilled", pass: command.pass, cost: cost.read() } as const) : null
})

const verify = Effect.fnUntraced(function* (strategy: Strategy, course: Course, command: Verify, cost: Meter) {
  const rows: Segment = {
    session: command.session,
    tokens: Int32Array.from(command.tokens),
    parents: Int32Array.from(command.parents, (parent) => command.committed + parent), // row 0's: the last committed slot
  }
  const all = Int32Array.from(command.tokens.keys())
  const result = yield* strategy.exact(course, rows, { op: "head", rows: all, want: "tokens" })
  if (!leads(strategy, course)) return null
  const choices = Array.from(result?.tokens ?? [])
  return { _tag: "Verified", pass: command.pass, choices, cost: cost.read() } as const
})

const commitChain = Effect.fnUntraced(function* (
  strategy: Strategy,
  course: Course,
  { session, committed }: PassCommand,
  tokens: ReadonlyArray<number>,
) {
  yield* strategy.exact(course, chain(session, committed, tokens), null)
  yield* course.compute.commit(
    session,
    Int32Array.from(tokens, (_, row) => committed + row),
  )
})

const leads = (strategy: Strategy, { place }: Course): boolean => strategy.leader(place.ranks) === place.rank
