// A deployment as a file, for `chorus deploy`: JSON in which everything but the name and the base's model has a default.
// Whatever is wrong is said with the field's name.
import { readFileSync } from "node:fs"
import { availableParallelism } from "node:os"
import { dirname, resolve } from "node:path"
import { Effect, Result, Schema } from "effect"
import { locate, modelsFolder } from "../hub/folder.ts"
import { open, sameVocabulary } from "../model/index.ts"
import { defaultStrategy } from "../rank/strategy/strategies.ts"
import { Deployment, Group, Scaling, SessionLimits, type StoredDeployment } from "../wire/deployment.ts"
import { isName } from "../wire/subjects.ts"
import { CommandFailed } from "./errors.ts"
import { DEFAULT_CONTEXT, warn } from "./models.ts"

const GroupFile = Schema.Struct({
  model: Schema.NonEmptyString, // path, from the file's folder, or a name in the models folder
  strategy: Schema.optionalKey(Group.fields.strategy),
  ranks: Schema.optionalKey(Group.fields.ranks),
  threads: Schema.optionalKey(Group.fields.threads),
  device: Schema.optionalKey(Group.fields.device),
})

/** Ranks of the base's model, strategy and number, since rank hands KV to rank. */
const PrefillFile = Schema.Struct({
  threads: GroupFile.fields.threads,
  device: GroupFile.fields.device,
})

const DeploymentFile = Schema.Struct({
  name: Schema.NonEmptyString,
  base: GroupFile,
  prefill: Schema.optionalKey(PrefillFile),
  draft: Schema.optionalKey(Schema.NullOr(GroupFile)),
  fuzzy: Schema.optionalKey(Deployment.fields.fuzzy),
  deterministic: Schema.optionalKey(Deployment.fields.deterministic),
  context: Schema.optionalKey(Deployment.fields.context),
  idleTimeoutMillis: Schema.optionalKey(Scaling.fields.idleTimeoutMillis),
  replicas: Schema.optionalKey(
    Schema.Struct({
      min: Schema.optionalKey(Scaling.fields.replicas.fields.min),
      max: Schema.optionalKey(Scaling.fields.replicas.fields.max),
      sessions: Schema.optionalKey(Scaling.fields.replicas.fields.sessions),
    }),
  ),
  standby: Scaling.fields.standby,
  ...SessionLimits.fields,
})
type DeploymentFile = typeof DeploymentFile.Type

/** Without sessions for so long, the ranks stop. */
const IDLE_MILLIS = 300_000

export const readDeployment = Effect.fnUntraced(function* (path: string) {
  const bad = (reason: string) => new CommandFailed({ reason: `${path}: ${reason}` })
  const text = yield* Effect.try({
    try: () => readFileSync(path, "utf8"),
    catch: (error) => bad(error instanceof Error ? error.message : String(error)),
  })
  const json: unknown = yield* Effect.try({
    try: () => JSON.parse(text),
    catch: (error) => bad(`is no JSON: ${error instanceof Error ? error.message : error}`),
  })
  const decoded = Schema.decodeUnknownResult(DeploymentFile, { errors: "all", onExcessProperty: "error" })(json)
  if (Result.isFailure(decoded)) return yield* bad(fieldsOf(decoded.failure.message))
  const file = decoded.success
  if (!isName(file.name)) return yield* bad("name: expected letters, digits, - and _, at most 64 of them")
  const { min = 0, max = Math.max(1, min) } = file.replicas ?? {}
  if (min > max) return yield* bad(`replicas: min is ${min}, more than max, which is ${max}`)
  const deployment = yield* filled(file, dirname(resolve(path)), bad)
  yield* checkModels(deployment, bad)
  return deployment
})

type Bad = (reason: string) => CommandFailed

const filled = Effect.fnUntraced(function* (file: DeploymentFile, folder: string, bad: Bad) {
  const { name, base: ofBase, draft: ofDraft = null, prefill, context: asked, replicas = {}, ...rest } = file
  const base = yield* groupOf("base", ofBase, folder, bad)
  const draft = ofDraft === null ? null : yield* groupOf("draft", ofDraft, folder, bad)
  const { min = 0, max = Math.max(1, min), sessions = 8 } = replicas
  const context = asked ?? (yield* contextFor([base, ...(draft === null ? [] : [draft])], bad))
  const deployment: StoredDeployment = {
    ...{ fuzzy: 4, deterministic: true, idleTimeoutMillis: IDLE_MILLIS },
    ...rest,
    ...{ name, base, draft, context, replicas: { min, max, sessions } },
    ...(prefill === undefined ? {} : { prefill: { ...base, ...prefill, name: "prefill" } }),
  }
  return deployment
})

const groupOf = Effect.fnUntraced(function* (
  name: Group["name"],
  file: typeof GroupFile.Type,
  folder: string,
  bad: Bad,
) {
  const { ranks = 1 } = file
  const strategy = file.strategy ?? defaultStrategy(name, ranks)
  if (strategy === "single" && ranks > 1) {
    return yield* bad(`${name}.ranks: is ${ranks}, and the strategy single is for one rank`)
  }
  const model = yield* modelAt(file.model, folder).pipe(
    Effect.mapError(({ message }) => bad(`${name}.model: ${message}`)),
  )
  const group: Group = {
    ...{ name, strategy, ranks, model, device: file.device ?? "auto" },
    threads: file.threads ?? Math.max(1, Math.floor(availableParallelism() / ranks)),
  }
  return group
})

/** Models lie on every machine that runs a rank of them, so none is brought by the way. */
const modelAt = Effect.fnUntraced(function* (model: string, from: string) {
  const found = yield* locate(model, { from, models: modelsFolder(process.env) })
  if (found._tag === "Here") return found.path
  return yield* new CommandFailed({ reason: `${model} is not here: \`chorus pull ${model}\` brings it` })
})

const contextFor = Effect.fnUntraced(function* (groups: ReadonlyArray<Group>, bad: Bad) {
  const contexts = yield* Effect.forEach(groups, ({ name, model }) =>
    open(model).pipe(
      Effect.map(({ context }) => context),
      Effect.mapError(({ message }) => bad(`${name}.model: ${message}`)),
    ),
  )
  return Math.min(DEFAULT_CONTEXT, ...contexts)
})

const checkModels = Effect.fnUntraced(function* ({ base, draft, context }: StoredDeployment, bad: Bad) {
  const look = (field: string, path: string) =>
    Effect.mapError(open(path, { context }), (error) =>
      bad(`${error._tag === "ContextTooLong" ? "context" : field}: ${error.message}`),
    )
  const model = yield* Effect.tap(look("base.model", base.model), warn)
  if (draft === null) return
  const drafting = yield* Effect.tap(look("draft.model", draft.model), warn)
  yield* Effect.mapError(sameVocabulary(model, drafting), ({ message }) => bad(`draft.model: ${message}`))
})

/** `Expected string\n at ["base"]["model"]` reads base.model: expected string. */
const fieldsOf = (message: string): string =>
  [...message.matchAll(/(.+?)\s*\n\s*at ((?:\[[^\]]*\])+)/g)]
    .map(([, what = "", path = ""]) => {
      const field = path.replaceAll(/\["([^"]*)"\]/g, ".$1").replace(/^\./, "")
      return `${field}: ${what.trim().replace(/^E/, "e")}`
    })
    .join("; ") || message.replaceAll(/\s*\n\s*/g, " ")
