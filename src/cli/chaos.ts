// chorus chaos: breaks an installation of its own by plan while it generates, and says whether anything was lost.
import { join } from "node:path"
import { Console, Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import type { Report } from "../chaos/chaos.ts"
import { type Fault, lineOf } from "../chaos/plan.ts"
import { readDeployment } from "./deploymentFile.ts"
import { CommandFailed } from "./errors.ts"
import * as flags from "./flags.ts"
import { counted, milliseconds } from "./quantities.ts"
import { table } from "./table.ts"

const DEMO = join(import.meta.dirname, "../../models/demo/deployment.json")

const options = {
  seed: flags
    .count("seed", 0)
    .pipe(
      Flag.withDescription("of the plan; the same seed strikes the same way (default: a random one)"),
      Flag.optional,
    ),
  faults: flags.count("faults", 1).pipe(Flag.withDescription("that strike, one after the other"), Flag.withDefault(20)),
  generations: flags
    .count("generations", 1)
    .pipe(Flag.withDescription("at least; they go on as long as faults strike"), Flag.withDefault(20)),
  servers: Flag.Literals("servers", ["1", "3"]).pipe(
    Flag.withDescription("NATS servers: a cluster of three, or one alone"),
    Flag.withDefault("3" as const),
  ),
  deployment: Flag.String("deployment").pipe(
    Flag.withDescription("file of a deployment, as `chorus deploy` takes it (default: the demo pair)"),
    Flag.withMetavar("FILE"),
    Flag.optional,
  ),
  json: flags.jsonOf("print one object: faults by kind, generations, violations, times of recovery"),
}

type Options = flags.Values<typeof options>

export const chaos = Command.make("chaos", options, (given) => Effect.scoped(run(given))).pipe(
  Command.withDescription(
    "Start an installation, strike it by a plan while it generates, and check that no token is lost, doubled or another one",
  ),
  Command.withExamples([
    { command: "chorus chaos", description: "20 faults of a random seed: about two minutes" },
    { command: "chorus chaos --seed 7 --faults 100 --generations 60", description: "Seed 7 as often as wanted" },
    { command: "chorus chaos --servers 1 --seed 3", description: "With the only nats-server among what is struck" },
    { command: "chorus chaos --deployment coder.json --json", description: "Another deployment, for a script" },
  ]),
)

const MOST_SEEDS = 2 ** 31

/** Two replicas, always there, whose ended sessions leave nothing: what is left is then left by mistake. */
const EXPOSED = { idleTimeoutMillis: null, replicas: { min: 2, max: 2, sessions: 8 }, keepMillis: 0 } as const

const run = Effect.fnUntraced(function* ({ json, ...given }: Options) {
  // Loaded here, for the other commands break nothing.
  const { chaos, commandOf } = yield* Effect.promise(() => import("../chaos/chaos.ts"))
  const deployment = yield* readDeployment(Option.getOrElse(given.deployment, () => DEMO))
  const asked = {
    seed: Option.getOrElse(given.seed, () => Math.floor(Math.random() * MOST_SEEDS)),
    ...{ faults: given.faults, generations: given.generations, deployment: { ...deployment, ...EXPOSED } },
    servers: given.servers === "1" ? (1 as const) : (3 as const),
  }
  const again = commandOf(asked, Option.getOrNull(given.deployment))
  const say = (line: string): void => void process.stderr.write(`${line}\n`)
  const report = yield* chaos({
    ...asked,
    tell: {
      doing: (what) => say(`${what} ...`),
      planned: (plan, without) => say(planned(asked.seed, plan, without).join("\n")),
      struck: ({ fault, whom }) => say(`${fault.number} of ${given.faults}: ${fault.action} ${whom}`),
      violated: (violation) => say(`VIOLATION: ${violation}`),
    },
  })
  const { violations } = report
  yield* Console.log(json ? JSON.stringify({ ...report, again }, null, 2) : page(report).join("\n"))
  if (violations.length === 0) return
  const reason = `${counted(violations.length, "violation")}. The same again: ${again}`
  return yield* new CommandFailed({ reason })
})

const planned = (seed: number, plan: ReadonlyArray<Fault>, without: ReadonlyArray<string>): ReadonlyArray<string> => [
  `Seed ${seed}: ${counted(plan.length, "fault")}.`,
  ...(without.length === 0 ? [] : [`Not on this machine: ${without.join(", ")}.`]),
  ...plan.map((fault) => `  ${lineOf(fault)}`),
]

const page = ({ seed, faults, generations, tokens, asked, minutes, violations, recovery }: Report) => [
  ...table(
    [
      { title: "fault", align: "left" },
      ...["times", "median", "95 %", "longest"].map((title) => ({ title, align: "right" as const })),
    ],
    recovery.map(({ kind, faults, ...times }) => [
      ...[kind, `${faults}`],
      ...[times.medianMillis, times.p95Millis, times.longestMillis].map((one) =>
        one === null ? "-" : milliseconds(one),
      ),
    ]),
  ),
  "From the fault to the next token of the session that waited longest.",
  "",
  `${counted(faults, "fault")} over ${counted(generations, "generation")} with ${counted(tokens, "token")} in ${minutes.toFixed(1)} min, seed ${seed}; ${counted(asked, "request")} asked again.`,
  violations.length === 0
    ? "Not one token lost, doubled or another one, and nothing left behind."
    : `${counted(violations.length, "violation")}:`,
  ...violations.map((violation) => `  ${violation}`),
]
