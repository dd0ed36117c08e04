// What the gateway counts of its own requests, for /metrics. What ranks and supervisors say of themselves is in beats.ts.
import { Effect, Metric } from "effect"
import type { Ending } from "../client/index.ts"

/** From a millisecond, about two a decade, to some minutes. */
const SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200]

const counter = (name: string, description: string) => Metric.counter(name, { description, incremental: true })
const histogram = (name: string, description: string, boundaries: ReadonlyArray<number> = SECONDS) =>
  Metric.histogram(name, { description, boundaries })

const requests = counter("chorus_http_requests_total", "HTTP requests answered, by route and status")
const open = Metric.gauge("chorus_http_requests_open", { description: "HTTP requests that are being answered" })
const requestSeconds = histogram("chorus_http_request_seconds", "From the request to the end of its answer")
const firstTokenSeconds = histogram("chorus_time_to_first_token_seconds", "From the request to its first token")
const nextTokenSeconds = histogram(
  "chorus_inter_token_seconds",
  "Between two tokens of an answer, as its reader sees them",
)
const tokens = counter("chorus_gateway_tokens_total", "Tokens of answers through this gateway, and of their prompts")
const endings = counter("chorus_gateway_generations_total", "Generations that have ended, by how")
const acceptedLength = histogram(
  "chorus_accepted_length",
  "Drafted tokens accepted an iteration, mean of a generation that drafted",
  [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8],
)
const passes = counter("chorus_passes_total", "Passes of groups, by kind")
const passSeconds = counter("chorus_pass_seconds_total", "Time of passes, from the command to the answer")
const computeSeconds = counter("chorus_pass_compute_seconds_total", "Time of passes on the answering rank's device")
const passHops = counter("chorus_pass_hops_total", "Messages one after the other on the way of a pass")
const passMessages = counter("chorus_pass_messages_total", "Messages of passes, of all ranks")
const passBytes = counter("chorus_pass_bytes_total", "Payload of those messages")

type Attributes = Readonly<Record<string, string>>

const add = (metric: Metric.Metric<number, unknown>, attributes: Attributes, amount: number): Effect.Effect<void> =>
  amount > 0 ? Metric.update(Metric.withAttributes(metric, attributes), amount) : Effect.void

const record = (metric: Metric.Metric<number, unknown>, attributes: Attributes, value: number): Effect.Effect<void> =>
  Metric.update(Metric.withAttributes(metric, attributes), value)

let requestsOpen = 0
const opened = (change: 1 | -1) =>
  Effect.suspend(() => {
    requestsOpen += change
    return Metric.update(open, requestsOpen)
  })

export const observe = {
  /** Counts a request from its beginning to the end of its scope. */
  request: Effect.fnUntraced(function* (route: string) {
    const began = performance.now()
    let status = 499 // of a client that has gone before there was an answer
    yield* Effect.acquireRelease(opened(1), () =>
      Effect.all(
        [
          opened(-1),
          add(requests, { route, status: `${status}` }, 1),
          record(requestSeconds, { route }, (performance.now() - began) / 1000),
        ],
        { discard: true },
      ),
    )
    return (answered: number): void => {
      status = answered
    }
  }),
  firstToken: (model: string, millis: number) => record(firstTokenSeconds, { model }, millis / 1000),
  /** For the many tokens of one answer: the metric is looked up once. */
  nextTokens: (model: string): ((millis: number) => Effect.Effect<void>) => {
    const metric = Metric.withAttributes(nextTokenSeconds, { model })
    return (millis) => Metric.update(metric, millis / 1000)
  },
  ending: (model: string, { finishReason, stats }: Ending) =>
    Effect.all(
      [
        add(endings, { model, reason: finishReason }, 1),
        add(tokens, { model, kind: "prompt" }, stats.promptTokens),
        add(tokens, { model, kind: "generated" }, stats.tokens),
        ...(stats.passes.draft === undefined ? [] : [record(acceptedLength, { model }, stats.meanAcceptedLength)]),
        ...Object.entries(stats.passes).flatMap(([kind, pass]) => [
          add(passes, { model, kind }, pass.count),
          add(passSeconds, { model, kind }, pass.millis / 1000),
          add(computeSeconds, { model, kind }, pass.computeMillis / 1000),
          add(passHops, { model, kind }, pass.hops),
          add(passMessages, { model, kind }, pass.messages),
          add(passBytes, { model, kind }, pass.bytes),
        ]),
      ],
      { discard: true },
    ),
}
