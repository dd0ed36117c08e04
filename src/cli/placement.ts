// From options to a deployment: which models, how many ranks, how they are split. Without options it is the demo pair, on
// one base rank and two draft ranks.
import { availableParallelism } from "node:os"
import { resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { Effect, Option } from "effect"
import { defaultStrategy } from "../rank/strategy/strategies.ts"
import type { Deployment, Group } from "../wire/deployment.ts"
import { UsageError } from "./errors.ts"
import type { placement, Values } from "./flags.ts"

export type PlacementFlags = Values<typeof placement>

export const noPlacement: PlacementFlags = {
  base: Option.none(),
  draft: Option.none(),
  strategy: Option.none(),
  "base-ranks": Option.none(),
  "draft-ranks": Option.none(),
  threads: Option.none(),
  device: Option.none(),
  context: Option.none(),
  deterministic: Option.none(),
}

export const root = fileURLToPath(new URL("../../", import.meta.url))

export const DEMO_PAIR = { base: resolve(root, "models/demo/base"), draft: resolve(root, "models/demo/draft") }

const DEFAULT_FUZZY = 4

/** Of the demo's pair, which is there to be looked at, and of a draft that is to be split. */
const SPLIT_DRAFT_RANKS = 2

/** The options of ranks that the command starts itself, by name. */
export const placementGiven = (flags: PlacementFlags): ReadonlyArray<string> =>
  Object.keys(noPlacement)
    .filter((name): name is keyof PlacementFlags => name in flags)
    .flatMap((name) => (Option.isSome<unknown>(flags[name]) ? [`--${name}`] : []))

export interface Plan {
  readonly name: string
  readonly speculation: boolean
  readonly fuzzy: Option.Option<number>
  readonly context: number // tokens; what the models themselves allow
  readonly cores?: number
}

/** The models that the options name, as absolute paths. */
export const modelsOf = (flags: PlacementFlags): { readonly base: string; readonly draft: string | null } => {
  const ownBase = Option.isSome(flags.base)
  const base = Option.match(flags.base, { onNone: () => DEMO_PAIR.base, onSome: (path) => resolve(path) })
  const draft = Option.match(flags.draft, {
    onNone: () => (ownBase ? null : DEMO_PAIR.draft),
    onSome: (path) => resolve(path),
  })
  return { base, draft }
}

export const deploymentOf = (flags: PlacementFlags, plan: Plan): Effect.Effect<Deployment, UsageError> =>
  Effect.gen(function* () {
    const models = modelsOf(flags)
    if (models.draft === null && Option.isSome(flags["draft-ranks"])) {
      return yield* new UsageError({ reason: "--draft-ranks needs a model that drafts: name one with --draft" })
    }
    const cores = plan.cores ?? availableParallelism()
    const base = yield* groupOf("base", models.base, flags, cores)
    const draft =
      models.draft === null || !plan.speculation ? null : yield* groupOf("draft", models.draft, flags, cores)
    return {
      name: plan.name,
      base,
      draft,
      fuzzy: Option.getOrElse(plan.fuzzy, () => DEFAULT_FUZZY),
      deterministic: Option.getOrElse(flags.deterministic, () => true),
      context: plan.context,
    }
  })

const groupOf = (
  name: "base" | "draft",
  model: string,
  flags: PlacementFlags,
  cores: number,
): Effect.Effect<Group, UsageError> => {
  const asked = Option.getOrUndefined(flags.strategy)
  const flag = `${name}-ranks` as const
  const splits = name === "draft" && (asked === undefined ? model === DEMO_PAIR.draft : asked !== "single")
  const fallback = splits ? SPLIT_DRAFT_RANKS : 1 // ranks that share a machine's cores do no better than one with all of them
  const ranks = Option.getOrElse(flags[flag], () => fallback)
  if (asked === "single" && ranks > 1) {
    return Effect.fail(new UsageError({ reason: `--strategy single is for one rank, --${flag} asks for ${ranks}` }))
  }
  return Effect.succeed({
    name,
    model,
    strategy: ranks === 1 || asked === undefined ? defaultStrategy(name, ranks) : asked,
    ranks,
    threads: Option.getOrElse(flags.threads, () => Math.max(1, Math.floor(cores / ranks))), // groups take turns
    device: Option.getOrElse(flags.device, () => "auto"),
  })
}
