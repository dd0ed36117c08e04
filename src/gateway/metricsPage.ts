// GET /metrics, for Prometheus: what the gateway has counted, and what ranks and supervisors say of themselves at this moment.
// The latter is put into a registry of its own each time, so that a rank that is gone is gone from the page.
import { Effect, Metric } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { PrometheusMetrics } from "effect/observability"
import type { SupervisorBeat } from "../wire/beat.ts"
import { Beats, type RankHeard } from "./beats.ts"

const gauge = (name: string, description: string) => Metric.gauge(name, { description })
const counter = (name: string, description: string) => Metric.counter(name, { description, incremental: true })

type Told<Beat> = ReadonlyArray<readonly [metric: Metric.Metric<number, unknown>, value: (beat: Beat) => number]>

const OF_RANKS: Told<RankHeard> = [
  [
    gauge("chorus_rank_ready", "1 where the rank is ready, 0 while it loads or drains"),
    (rank) => Number(rank.state === "ready"),
  ],
  [gauge("chorus_rank_sessions", "Sessions with KV on the rank"), (rank) => rank.sessions],
  [gauge("chorus_rank_kv_bytes", "Memory of the rank's KV"), (rank) => rank.bytesOfKv],
  [counter("chorus_rank_kv_sent_bytes_total", "KV that the rank has sent to its standby"), (rank) => rank.kvBytes],
  [counter("chorus_rank_kv_sent_messages_total", "Messages that it took"), (rank) => rank.kvMessages],
  [gauge("chorus_rank_weights_bytes", "Weights of the rank's shard"), (rank) => rank.bytesOfWeights],
  [
    counter(
      "chorus_rank_compute_seconds_total",
      "Time that the rank's device has computed: its rate is the device's load",
    ),
    (rank) => rank.computeMillis / 1000,
  ],
]

const OF_SUPERVISORS: Told<SupervisorBeat> = [
  [
    gauge("chorus_supervisor_ready", "1 where the supervisor is ready, 0 while it drains"),
    (beat) => Number(beat.state === "ready"),
  ],
  [
    gauge("chorus_supervisor_storage_ready", "1 where the storage takes what is written, 0 where it refuses"),
    (beat) => Number(beat.storage === undefined),
  ],
  [gauge("chorus_supervisor_sessions", "Sessions that run"), (beat) => beat.sessions],
  [gauge("chorus_supervisor_waiting", "Requests that wait for memory: the queue"), (beat) => beat.waiting],
  [
    gauge("chorus_supervisor_kv_tokens_reserved", "KV that is set aside for the sessions that run"),
    (beat) => beat.kvTokensReserved,
  ],
  [
    gauge("chorus_supervisor_kv_tokens_kept", "KV of ended sessions, for sessions that go on from them"),
    (beat) => beat.kvTokensKept,
  ],
  [gauge("chorus_supervisor_kv_tokens", "KV that there is memory for"), (beat) => beat.kvTokensTotal],
  [counter("chorus_supervisor_requests_total", "Requests"), (beat) => beat.requests],
  [counter("chorus_supervisor_refused_total", "Requests that were refused"), (beat) => beat.refused],
  [counter("chorus_supervisor_tokens_total", "Tokens generated"), (beat) => beat.tokens],
  [counter("chorus_supervisor_iterations_total", "Iterations of all sessions"), (beat) => beat.iterations],
  [counter("chorus_supervisor_drafted_total", "Tokens drafted"), (beat) => beat.drafted],
  [counter("chorus_supervisor_accepted_total", "Drafted tokens that the base chose too"), (beat) => beat.accepted],
]

export const metricsPage = HttpRouter.route(
  "GET",
  "/metrics",
  Effect.gen(function* () {
    const beats = yield* Beats
    const [ranks, supervisors] = yield* Effect.all([beats.ranks, beats.supervisors])
    const told = Effect.all([
      ...ranks.map((rank) => tell(OF_RANKS, rank, labelsOfRank(rank))),
      ...supervisors.map((beat) => tell(OF_SUPERVISORS, beat, { deployment: beat.deployment, supervisor: beat.id })),
    ])
    const pages = [
      yield* PrometheusMetrics.format(),
      yield* Effect.provideService(Effect.andThen(told, PrometheusMetrics.format()), Metric.MetricRegistry, new Map()),
    ]
    return HttpServerResponse.text(pages.join(""), { contentType: "text/plain; version=0.0.4; charset=utf-8" })
  }),
)

type Labels = Readonly<Record<string, string>>

const labelsOfRank = ({ deployment, epoch, group, rank, device }: RankHeard): Labels => ({
  ...{ deployment, epoch: `${epoch}`, group, rank: `${rank}`, device },
})

const tell = <Beat>(told: Told<Beat>, beat: Beat, labels: Labels): Effect.Effect<void> =>
  Effect.forEach(told, ([metric, value]) => Metric.update(Metric.withAttributes(metric, labels), value(beat)), {
    discard: true,
  })
