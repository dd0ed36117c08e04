// A generation's ranks: it comes to a replica, has its KV filled in there, and goes on from iteration to iteration; where the
// replica drains it moves to another one with its KV, which is freed when it has come.
import { Effect, Exit, Scope } from "effect"
import { GroupSilent } from "../wire/errors.ts"
import { catchUp, firstLook } from "./draft.ts"
import { owesPrompt } from "./logProbs.ts"
import { prefill, prefillApart } from "./prefill.ts"
import type { Reuse } from "./prefixes.ts"
import { SessionPlace } from "./services.ts"
import { begin, learn, prepares, wonders } from "./speculationControl.ts"
import { type Generation, holding, type Unplaced } from "./state.ts"

/** On one replica. Its state is the newest: what is freed, or kept for others, when it goes depends on it. */
interface Stay {
  generation: Generation
  readonly leaves: () => boolean // whether it should go on elsewhere
  readonly scope: Scope.Closeable
}

interface May {
  readonly draft: boolean // else the draft's ranks are left alone, whatever there are
}

/** To its end. */
export const onReplicas = <E, R>(
  unplaced: Unplaced,
  may: May,
  iteration: (generation: Generation) => Effect.Effect<Generation, E, R>,
) =>
  Effect.gen(function* () {
    const { journal } = unplaced
    let stay = yield* arrive(unplaced, may, null)
    while (journal.finish === null) {
      if (stay.leaves()) stay = yield* move(stay, may)
      else stay.generation = yield* iteration(stay.generation)
    }
    return journal.finish
  }).pipe(
    Effect.scoped,
    Effect.catchTag("Cancelled", () =>
      // By an owner that has taken the session over, or believes so: the log will tell. A client's cancellation does not come from the ranks.
      Effect.fail(
        new GroupSilent({ group: "base", reason: "a pass of the session was stopped there", blameless: true }),
      ),
    ),
  )

/** On another replica; its KV comes from this one, where it is freed then. */
const move = Effect.fnUntraced(function* (left: Stay, may: May) {
  const { run, journal, placed } = left.generation
  const moving: Reuse = {
    session: run.request.session,
    kv: run.kv,
    base: placed.base.committed,
    draft: placed.draft.committed,
    source: { epoch: placed.models.base.epoch() },
  }
  const stay = yield* arrive({ run, journal }, may, moving)
  yield* Scope.close(left.scope, Exit.void)
  return stay
})

/** On a replica, with KV for all that is accepted. */
const arrive = Effect.fnUntraced(function* ({ run, journal }: Unplaced, may: May, moving: Reuse | null) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const place = yield* SessionPlace
  const { models: all, coldStart, leaves } = yield* Scope.provide(place.take, scope)
  const models = may.draft ? all : { ...all, draft: null }
  run.tally.placed(coldStart)
  const placed = { models, base: { committed: 0, acceptedRows: [] }, draft: { committed: 0 }, reuse: null }
  const control = begin(run.request, models)
  const stay: Stay = { generation: { run, journal, placed, control }, leaves, scope }
  yield* Scope.addFinalizerExit(scope, (exit) => release(stay.generation, exit))
  stay.generation = yield* fill(stay.generation, moving)
  return stay
})

/** The prompt's KV, or that of all that was accepted before. */
const fill = Effect.fnUntraced(function* (before: Generation, moving: Reuse | null) {
  const { run, journal } = before
  const { draft, prefixes } = before.placed.models
  if (journal.finish !== null && !owesPrompt(before)) return before // all but the log's last entry was written
  // What a copy has is not computed, and so cannot be told.
  const reuse = moving ?? (owesPrompt(before) ? null : prefixes.reusable(run.request.prompt))
  let generation = yield* fillBase(holding(before, { reuse }))
  if (draft !== null && moving !== null && moving.draft > 0) generation = yield* catchUp(generation, draft)
  if (moving !== null) generation = holding(generation, { reuse: null }) // where it was, it is freed
  if (draft !== null && wonders(generation)) generation = yield* firstLook(generation, draft)
  generation = learn(generation, null)
  if (draft !== null && prepares(generation)) generation = yield* catchUp(generation, draft)
  run.tally.prefilled()
  return learn(generation, null)
})

/** By the base's ranks, or, where others are there for it and there is something to fill in, by those. */
const fillBase = (generation: Generation) => {
  const { run, journal, placed } = generation
  const { base, prefill: apart } = placed.models
  const last = journal.tokens.length - 1
  if (apart === null || placed.reuse !== null || last === 0) return prefill(generation, base, 0, last)
  return prefillApart(generation, apart, last).pipe(
    Effect.flatMap((generation) => prefill(generation, base, 0, last)),
    Effect.map((generation) => holding(generation, { reuse: null })),
    Effect.ensuring(apart.control({ _tag: "Abort", session: run.kv })),
  )
}

/** Frees the session's KV on every rank, and stops what may still run for it; what has ended well may be kept for others. */
const release = ({ run, journal, placed }: Generation, exit: Exit.Exit<unknown, unknown>) => {
  const { base, draft, prefixes } = placed.models
  const { kv, request } = run
  const tell = (_tag: "Abort" | "Release") =>
    Effect.andThen(base.control({ _tag, session: kv }), draft?.control({ _tag, session: kv }) ?? Effect.void)
  if (Exit.isFailure(exit) || journal.finish === null) return tell("Abort") // it goes on elsewhere, or nowhere
  const lengths = { base: placed.base.committed, draft: placed.draft.committed }
  return prefixes.leave({ session: request.session, kv, tokens: journal.tokens, ...lengths }, tell("Release"))
}
