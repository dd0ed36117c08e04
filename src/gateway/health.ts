// GET /healthz: the gateway is alive. GET /readyz: and so are all the ranks of a deployment that somebody serves.
import { Effect } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { Beats, type RankHeard } from "./beats.ts"
import { Deployments } from "./deployments.ts"

export const healthz = HttpRouter.add("GET", "/healthz", HttpServerResponse.jsonUnsafe({ status: "alive" }))

export const readyz = HttpRouter.add(
  "GET",
  "/readyz",
  Effect.gen(function* () {
    const served = yield* (yield* Deployments).served
    const heard = yield* (yield* Beats).ranks
    const deployments = served.map(({ name }) => {
      const ranks = heard.filter(({ deployment }) => deployment === name)
      return { name, ready: areReady(ranks), ranks: ranks.length }
    })
    const ready = deployments.some((deployment) => deployment.ready)
    return HttpServerResponse.jsonUnsafe(
      { status: ready ? "ready" : "not ready", deployments },
      { status: ready ? 200 : 503 },
    )
  }),
)

/** Every rank of every group. */
const areReady = (ranks: ReadonlyArray<RankHeard>): boolean =>
  ranks.length > 0 &&
  ranks.every(({ group, ranks: wanted }) => {
    const able = ranks.filter((rank) => rank.group === group && rank.state === "ready")
    return able.length === wanted
  })
