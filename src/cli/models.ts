// Looks into the models that the options name before anything is started: what is wrong with them is said at once.
import { Console, Effect, Option } from "effect"
import { type Model, open, sameVocabulary } from "../model/index.ts"
import { modelsOf, type PlacementFlags } from "./placement.ts"

/** Tokens of a session where no more were asked for: KV memory is set aside for what may be, not for what is. */
export const DEFAULT_CONTEXT = 4096

/** The context that sessions have: what was asked for, or what both models allow up to a default. */
export const contextOf = Effect.fnUntraced(function* (flags: PlacementFlags) {
  const paths = modelsOf(flags)
  const options = Option.match(flags.context, { onNone: () => ({}), onSome: (context) => ({ context }) })
  const base = yield* Effect.tap(open(paths.base, options), warn)
  if (paths.draft === null)
    return Math.min(
      base.context,
      Option.getOrElse(flags.context, () => DEFAULT_CONTEXT),
    )
  const draft = yield* Effect.tap(open(paths.draft, options), warn)
  yield* sameVocabulary(base, draft)
  const shorter = Math.min(base.context, draft.context)
  return Math.min(
    shorter,
    Option.getOrElse(flags.context, () => DEFAULT_CONTEXT),
  )
})

/** What a model's files leave open is said on stderr, once a command. */
export const warn = ({ warnings }: Model): Effect.Effect<void> =>
  Effect.forEach(warnings, (warning) => Console.error(`chorus: ${warning}.`), { discard: true })
