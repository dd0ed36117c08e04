// GET /healthz: the gateway is alive. GET /readyz, and /health and /v1/health, as other servers call it: a request would be
// served, since some deployment has all its ranks ready and a supervisor has had a pass through them, or has none and starts
// them with the next request. Where no storage takes what supervisors have to write, none would. GET /version: which Chorus this is.
import { Effect } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { VERSION } from "../bus/version.ts"
import type { SupervisorBeat } from "../wire/beat.ts"
import { Beats, type RankHeard } from "./beats.ts"
import { Deployments, type ServedModel } from "./deployments.ts"

const READY = ["/readyz", "/health", "/v1/health"] as const

/** What probes ask for, without a key. */
export const PROBES: ReadonlyArray<string> = ["/healthz", ...READY]

const ready = Effect.gen(function* () {
  const served = yield* (yield* Deployments).served
  const beats = yield* Beats
  const heard = yield* beats.ranks
  const supervisors = yield* beats.supervisors
  const serving = new Set(
    supervisors.filter(({ state, serving }) => state === "ready" && serving).map(({ deployment }) => deployment),
  )
  const deployments = served.map((model) => {
    const ranks = heard.filter(({ deployment }) => deployment === model.name)
    const storage = refusing(supervisors.filter(({ deployment }) => deployment === model.name))
    const about = { name: model.name, state: stateOf(model, ranks, serving), ranks: ranks.length }
    return storage === undefined ? about : { ...about, state: "storage" as const, storage }
  })
  const ready = deployments.some(({ state }) => state === "ready" || state === "idle")
  return HttpServerResponse.jsonUnsafe(
    { status: ready ? "ready" : "not ready", deployments },
    { status: ready ? 200 : 503 },
  )
})

export const health = [
  HttpRouter.route("GET", "/healthz", HttpServerResponse.jsonUnsafe({ status: "alive" })),
  ...READY.map((path) => HttpRouter.route("GET", path, ready)),
]

export const version = HttpRouter.route("GET", "/version", HttpServerResponse.jsonUnsafe({ version: VERSION }))

/** Why a deployment's supervisors cannot write; undefined where one of them can. */
const refusing = (supervisors: ReadonlyArray<SupervisorBeat>): string | undefined =>
  supervisors.every(({ storage }) => storage !== undefined) ? supervisors[0]?.storage : undefined

type State = "ready" | "starting" | "idle"

/** Ranks of one epoch are a replica. */
const stateOf = (
  { name, metadata: { base, draft } }: ServedModel,
  ranks: ReadonlyArray<RankHeard>,
  serving: ReadonlySet<string>,
): State => {
  if (ranks.length === 0) return "idle"
  const epochs = new Set(ranks.map(({ epoch }) => epoch))
  const isWhole = (epoch: number, group: string, wanted: number) => {
    const able = ranks.filter((rank) => rank.epoch === epoch && rank.group === group && rank.state === "ready")
    return able.length === wanted
  }
  const whole = [...epochs].some(
    (epoch) => isWhole(epoch, "base", ranksOf(base)) && isWhole(epoch, "draft", ranksOf(draft)),
  )
  return whole && serving.has(name) ? "ready" : "starting"
}

/** A supervisor says "layer x 2", or "none". */
const ranksOf = (group = "none"): number => Number(/ x (\d+)$/.exec(group)?.[1] ?? 0)
