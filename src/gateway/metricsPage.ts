// GET /metrics, for Prometheus: what the gateway has counted, and what ranks say of themselves at this moment. The latter is
// put into a registry of its own each time, so that a rank that is gone is gone from the page.
import { Effect, Metric } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { PrometheusMetrics } from "effect/observability"
import { Beats, type RankHeard } from "./beats.ts"

const gauge = (name: string, description: string) => Metric.gauge(name, { description })

const ready = gauge("chorus_rank_ready", "1 where the rank is ready, 0 while it loads or drains")
const sessions = gauge("chorus_rank_sessions", "Sessions with KV on the rank")
const computeSeconds = Metric.counter("chorus_rank_compute_seconds_total", {
  description: "Time that the rank's device has computed: its rate is the device's load",
  incremental: true,
})
const bytesOfKv = gauge("chorus_rank_kv_bytes", "Memory of the rank's KV")
const bytesOfWeights = gauge("chorus_rank_weights_bytes", "Weights of the rank's shard")

export const metricsPage = HttpRouter.add(
  "GET",
  "/metrics",
  Effect.gen(function* () {
    const ranks = yield* (yield* Beats).ranks
    const now = Effect.andThen(Effect.forEach(ranks, tell, { discard: true }), PrometheusMetrics.format())
    const pages = [
      yield* PrometheusMetrics.format(),
      yield* Effect.provideService(now, Metric.MetricRegistry, new Map()),
    ]
    return HttpServerResponse.text(pages.join(""), { contentType: "text/plain; version=0.0.4; charset=utf-8" })
  }),
)

const tell = (rank: RankHeard): Effect.Effect<void> => {
  const { deployment, group, device } = rank
  const attributes = { deployment, epoch: `${rank.epoch}`, group, rank: `${rank.rank}`, device }
  const set = (metric: Metric.Metric<number, unknown>, value: number) =>
    Metric.update(Metric.withAttributes(metric, attributes), value)
  return Effect.all(
    [
      set(ready, rank.state === "ready" ? 1 : 0),
      set(sessions, rank.sessions),
      set(computeSeconds, rank.computeMillis / 1000),
      set(bytesOfKv, rank.bytesOfKv),
      set(bytesOfWeights, rank.bytesOfWeights),
    ],
    { discard: true },
  )
}
