// GET /healthz: the gateway is alive. GET /readyz: a request would be served, since some deployment has all its ranks ready,
// or has none and starts them with the next request.
import { Effect } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { Beats, type RankHeard } from "./beats.ts"
import { Deployments, type ServedModel } from "./deployments.ts"

export const healthz = HttpRouter.add("GET", "/healthz", HttpServerResponse.jsonUnsafe({ status: "alive" }))

export const readyz = HttpRouter.add(
  "GET",
  "/readyz",
  Effect.gen(function* () {
    const served = yield* (yield* Deployments).served
    const heard = yield* (yield* Beats).ranks
    const deployments = served.map((model) => {
      const ranks = heard.filter(({ deployment }) => deployment === model.name)
      return { name: model.name, state: stateOf(model, ranks), ranks: ranks.length }
    })
    const ready = deployments.some(({ state }) => state !== "starting")
    return HttpServerResponse.jsonUnsafe(
      { status: ready ? "ready" : "not ready", deployments },
      { status: ready ? 200 : 503 },
    )
  }),
)

type State = "ready" | "starting" | "idle"

/** Ranks of one epoch are a replica. */
const stateOf = ({ metadata: { base, draft } }: ServedModel, ranks: ReadonlyArray<RankHeard>): State => {
  if (ranks.length === 0) return "idle"
  const epochs = new Set(ranks.map(({ epoch }) => epoch))
  const isWhole = (epoch: number, group: string, wanted: number) => {
    const able = ranks.filter((rank) => rank.epoch === epoch && rank.group === group && rank.state === "ready")
    return able.length === wanted
  }
  const whole = [...epochs].some(
    (epoch) => isWhole(epoch, "base", ranksOf(base)) && isWhole(epoch, "draft", ranksOf(draft)),
  )
  return whole ? "ready" : "starting"
}

/** A supervisor says "layer x 2", or "none". */
const ranksOf = (group = "none"): number => Number(/ x (\d+)$/.exec(group)?.[1] ?? 0)
