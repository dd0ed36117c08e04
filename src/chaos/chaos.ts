// A chaos run: the plan of a seed struck at an installation of its own while generations go on, and what is wrong with any
// of them or left behind afterwards.
import { randomUUID } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect } from "effect"
import type { Client } from "../client/index.ts"
import { follow } from "../store/logReader.ts"
import type { StoredDeployment } from "../wire/deployment.ts"
import type { LogEntry } from "../wire/infer.ts"
import { subjectsOf } from "../wire/subjects.ts"
import { checkLog, checkOutcome, type Undisturbed } from "./check.ts"
import { type GenerationOutcome, generation } from "./generation.ts"
import { type Installation, install } from "./installation.ts"
import { left, processesOf, restOf, settled } from "./leftovers.ts"
import { overHttp } from "./overHttp.ts"
import { type Fault, planOf } from "./plan.ts"
import { type Recovery, recoveries } from "./recovery.ts"
import { REQUESTS, type Scene, sceneOf } from "./requests.ts"
import { canMount } from "./servers.ts"
import { canLimitMemory, type Struck, strike } from "./strike.ts"

export interface ChaosOptions {
  readonly deployment: StoredDeployment
  readonly seed: number
  readonly faults: number
  readonly generations: number // at least; they go on as long as faults do
  readonly servers: 1 | 3
  readonly tell: Tell
}

/** What a run tells while it goes on. */
export interface Tell {
  readonly doing: (what: string) => void
  readonly planned: (plan: ReadonlyArray<Fault>, without: ReadonlyArray<string>) => void
  readonly struck: (struck: Struck) => void
  readonly violated: (violation: string) => void
}

export interface Report {
  readonly seed: number
  readonly without: ReadonlyArray<string> // kinds of faults that cannot be had on this machine
  readonly faults: number
  readonly generations: number
  readonly tokens: number
  readonly asked: number // requests that were refused and asked again
  readonly minutes: number
  readonly violations: ReadonlyArray<string>
  readonly recovery: ReadonlyArray<Recovery>
}

/** Generations that go on at a time. */
const STREAMS = 8

/** An installation is whole again by then, or something is wrong with it. */
const WHOLE_MILLIS = 90_000

/** Gone by then are consumers whose reader was killed, sessions whose asker was, and KV that is no longer mentioned. */
const SETTLED_MILLIS = 150_000

export const chaos = Effect.fnUntraced(function* (options: ChaosOptions) {
  const { seed, tell } = options
  const began = performance.now()
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "chorus-chaos-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true })),
  )
  const mark = randomUUID()
  const disks = yield* Effect.promise(() => canMount(folder))
  const without = [...(disks ? [] : ["fill server"]), ...(canLimitMemory() ? [] : ["starve rank"])]
  const plan = planOf({ ...options, without })
  tell.planned(plan, without)
  const violations: Array<string> = []
  const violated = (violation: string): void => {
    violations.push(violation)
    tell.violated(violation)
  }
  const run = yield* Effect.scoped(
    Effect.gen(function* () {
      tell.doing("Starting an installation")
      const installation = yield* install({ ...options, folder, mark, disks, accident: violated })
      return yield* upon(installation, options, plan, violated)
    }),
  )
  const processes = processesOf(mark)
  if (processes.length > 0) violated(`processes are left: ${processes.join(", ")}`)
  const report: Report = {
    ...{ seed, without, faults: run.struck.length, generations: run.outcomes.length, violations },
    tokens: run.tokens,
    asked: run.outcomes.reduce((sum, { refusals }) => sum + refusals, 0),
    minutes: (performance.now() - began) / 60_000,
    recovery: recoveries(run.struck, run.outcomes),
  }
  return report
})

type Violated = (violation: string) => void

const upon = Effect.fnUntraced(function* (
  installation: Installation,
  options: ChaosOptions,
  plan: ReadonlyArray<Fault>,
  violated: Violated,
) {
  const { tell } = options
  const mustBeWhole = Effect.map(whole(installation), (is) => (is ? undefined : violated("is not whole in time")))
  yield* mustBeWhole
  tell.doing("Generating undisturbed")
  const expected = yield* Effect.forEach(REQUESTS, (_, request) => undisturbed(installation, request), {
    concurrency: STREAMS,
  })
  yield* overEachGateway(installation, options, expected, violated) // they connect for a deployment when it is asked for
  const before = yield* settled(installation, yield* Effect.promise(() => restOf(installation)), 0)
  tell.doing("Striking")
  const struck: Array<Struck> = []
  let done = false
  const striking = Effect.gen(function* () {
    for (const fault of plan) struck.push(yield* strikeNext(installation, fault, struck, mustBeWhole, tell))
    done = true
  })
  const outcomes: Array<GenerationOutcome> = []
  let next = 1
  const stream = Effect.gen(function* () {
    while (!done || next <= options.generations) {
      const outcome = yield* one(installation, options, expected, next++, violated)
      outcomes.push(outcome)
    }
  })
  yield* Effect.all([striking, ...Array.from({ length: STREAMS }, () => stream)], { concurrency: "unbounded" })
  yield* Effect.promise(() => Promise.all(struck.map(({ over }) => over)))
  tell.doing("Looking at what is left")
  yield* mustBeWhole
  const after = yield* settled(installation, before, SETTLED_MILLIS)
  for (const what of left(before, after)) violated(`left behind: ${what}`)
  const tokens = outcomes.reduce((sum, { scene }) => sum + (expected[scene.request]?.tokens.length ?? 0), 0)
  return { struck, outcomes, tokens }
})

const LOOK_MILLIS = 100

/** Whether it is, in time. */
const whole = (installation: Installation) =>
  Effect.gen(function* () {
    while (!(yield* Effect.promise(() => installation.isWhole()))) yield* Effect.sleep(LOOK_MILLIS)
    return true
  }).pipe(Effect.timeoutOrElse({ duration: WHOLE_MILLIS, orElse: () => Effect.succeed(false) }))

const undisturbed = Effect.fnUntraced(function* ({ clients }: Installation, request: number) {
  const client = clients[request % clients.length]
  const asked = REQUESTS[request]
  if (client === undefined || asked === undefined) return yield* Effect.die(new Error("no client to ask"))
  const { tokens, text, finishReason } = yield* Effect.promise(async () => (await client.generate(asked)).ending())
  return { tokens, text, finishReason } satisfies Undisturbed
})

const FIRST: Scene = { request: 0, way: "http", leaves: [], second: null }

const overEachGateway = Effect.fnUntraced(function* (
  { gateways }: Installation,
  { deployment }: ChaosOptions,
  [undisturbed]: ReadonlyArray<Undisturbed>,
  violated: Violated,
) {
  const [request] = REQUESTS
  if (request === undefined || undisturbed === undefined) return
  const { length } = undisturbed.tokens
  for (const gateway of gateways) {
    const asking = { gateways: [gateway], model: deployment.name, request, scene: FIRST, number: 0, length }
    const outcome = yield* Effect.promise(() => overHttp(asking))
    for (const wrong of checkOutcome(outcome, undisturbed)) violated(`${gateway}, undisturbed: ${wrong}`)
  }
})

/** When its time has come and there is a process to strike. */
const strikeNext = Effect.fnUntraced(function* (
  installation: Installation,
  fault: Fault,
  before: ReadonlyArray<Struck>,
  mustBeWhole: Effect.Effect<void>,
  tell: Tell,
) {
  if (fault.alone) {
    yield* Effect.promise(() => Promise.all(before.map(({ over }) => over)))
    yield* mustBeWhole
  }
  yield* Effect.sleep(fault.pauseMillis)
  for (;;) {
    const struck = strike(installation, fault)
    if (struck !== null) {
      tell.struck(struck)
      return struck
    }
    yield* Effect.sleep(LOOK_MILLIS)
  }
})

const one = Effect.fnUntraced(function* (
  installation: Installation,
  { seed, deployment }: ChaosOptions,
  expected: ReadonlyArray<Undisturbed>,
  number: number,
  violated: Violated,
) {
  const scene = sceneOf(seed, number)
  const request = REQUESTS[scene.request]
  const undisturbed = expected[scene.request]
  const clients = pairOf(installation.clients)
  if (request === undefined || undisturbed === undefined) return yield* Effect.die(new Error("no such request"))
  const { gateways } = installation
  const generating = { request, scene, number, length: undisturbed.tokens.length }
  const outcome = yield* Effect.promise(() =>
    scene.way === "http"
      ? overHttp({ ...generating, gateways, model: deployment.name })
      : generation({ ...generating, clients }),
  )
  const name = `generation ${number} (request ${scene.request}, session ${outcome.session})`
  for (const wrong of checkOutcome(outcome, undisturbed)) violated(`${name}: ${wrong}`)
  if (outcome.session !== null && outcome.problem === null) {
    const entries = yield* logOf(installation, subjectsOf(deployment.name).tokens(outcome.session))
    for (const wrong of checkLog(entries, undisturbed)) violated(`${name}: ${wrong}`)
  }
  return outcome
})

const pairOf = ([first, second]: ReadonlyArray<Client>): readonly [Client, Client] => {
  if (first === undefined || second === undefined) throw new Error("an installation has two clients")
  return [first, second]
}

const logOf = ({ watch }: Installation, subject: string) =>
  Effect.promise(async () => {
    const entries: Array<LogEntry> = []
    for await (const { entry } of follow(watch.connection, subject)) entries.push(entry)
    return entries
  })

type RepeatOptions = Pick<ChaosOptions, "seed" | "faults" | "generations" | "servers">

/** The command that does the same again. */
export const commandOf = ({ seed, faults, generations, servers }: RepeatOptions, deployment: string | null): string =>
  `chorus chaos --seed ${seed} --faults ${faults} --generations ${generations}${servers === 1 ? " --servers 1" : ""}${
    deployment === null ? "" : ` --deployment ${deployment}`
  }`
