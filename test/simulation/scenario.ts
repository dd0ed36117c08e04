// What a seed stands for: the shape of the cluster, the sessions, and how bad the world is to them.

import type { GenerateRequest } from "../../src/generation/request.ts"
import type { Limits } from "../../src/session/admission.ts"
import type { Strategy } from "../../src/wire/deployment.ts"
import { answer, END, type ModelShape, VOCABULARY } from "./engine.ts"
import type { Faults } from "./network.ts"
import { Random } from "./random.ts"

/** What happens to the world while it is troubled; each has a weight. */
export const TROUBLES = [
  "kill a rank",
  "stop a rank",
  "cut a rank off",
  "kill a supervisor",
  "drain a supervisor",
  "stop a supervisor",
  "cut a supervisor off",
  "kill a host",
  "stop a host",
  "cut a host off",
  "drain a host",
  "partition",
  "restart the server",
] as const
export type Trouble = (typeof TROUBLES)[number]

export interface GroupShape {
  readonly strategy: Strategy
  readonly ranks: number
  readonly model: ModelShape
}

/** What all replicas of all deployments are. */
export interface ReplicaShape {
  readonly fuzzy: number
  readonly base: GroupShape
  readonly draft: GroupShape | null
  readonly prefill: GroupShape | null // of the base's shape
}

export interface SessionPlan {
  readonly deployment: number
  readonly request: GenerateRequest
  readonly askedAt: number
  readonly cancelledAt: number | null
  readonly readers: number
}

export interface Scenario {
  readonly replica: ReplicaShape
  readonly replicas: number // of each deployment
  readonly deployments: number
  readonly standby: boolean // whether each group has one
  readonly hosts: number
  readonly supervisors: number
  readonly sessions: ReadonlyArray<SessionPlan>
  readonly faults: Faults
  readonly troubles: ReadonlyArray<Trouble> // that may happen
  readonly troubleMillis: number // between two of them, about
  readonly calmAt: number // from then on all goes well
  readonly drift: number // of a clock, at most
  readonly computeMillis: number
  readonly diskMillis: number
  readonly slowDisk: number // probability of a write that takes very long
  readonly lostTail: number // most entries that a restart may lose
  readonly duplicatesFirst: boolean
  readonly copies: 1 | 3 // of what is stored, each on a server of its own
  readonly limits: Limits
  readonly keepMillis: number // KV of a session that has ended
  readonly drains: ReadonlyArray<Drain>
  readonly kvTokens: number // that a replica has memory for
}

/** A host takes no ranks for a while, and the sessions on its own go on elsewhere. */
export interface Drain {
  readonly at: number
  readonly millis: number // how long sessions may go on there
}

const SAMPLING = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 0n }

export const draw = (seed: number, random: Random): Scenario => {
  const scenario = drawStill(random)
  const apart = new Random(-1 - seed)
  const sessions = scenario.sessions.map((plan) => inTime(apart, plan))
  const limited = { ...copied(new Random(-2 - seed), scenario), sessions }
  const drained = apart.chance(0.5) ? draining(apart, limited) : limited
  const choosing = new Random(-3 - seed)
  const chosen = { ...drained, sessions: drained.sessions.map((plan) => adjusted(choosing, plan)) }
  const contest = new Random(-4 - seed)
  return contest.chance(0.25) ? contested(contest, chosen) : chosen
}

const CONTEST: ReadonlyArray<Trouble> = ["stop a supervisor", "cut a supervisor off", "kill a supervisor"]

/** Supervisors lose their sessions, and their turn as the controller, to one another, and are back too late. All else is small. */
const contested = (random: Random, scenario: Scenario): Scenario => {
  const { model } = scenario.replica.base
  const replica: ReplicaShape = {
    ...{ fuzzy: 1, draft: null, prefill: null },
    base: { strategy: "single", ranks: 1, model },
  }
  const sessions = scenario.sessions.map((plan) => {
    const request: GenerateRequest = { ...plan.request, speculation: "none", deadlineMillis: null }
    return { ...plan, deployment: 0, cancelledAt: null, request: lasting(random, request, replica) }
  })
  return {
    ...scenario,
    ...{ replica, replicas: 1, deployments: 1, hosts: 1, supervisors: random.integer(2, 3), sessions },
    ...{
      standby: false,
      drains: [],
      lostTail: 0,
      slowDisk: random.pick([0, 0.1]),
      computeMillis: random.pick([30, 150]),
    },
    ...{ troubles: CONTEST, troubleMillis: random.pick([200, 600]), calmAt: PLACED_MILLIS + 5_000 },
    faults: { ...scenario.faults, loss: 0, late: random.pick([0, 0.02]) },
  }
}

/** What is chosen depends on more than the KV: on what the answer has said, and on how much that is. */
const adjusted = (random: Random, plan: SessionPlan): SessionPlan => {
  if (random.chance(0.6)) return plan
  const { request } = plan
  const { length: from } = request.prompt
  const minTokens = random.chance(0.5) ? random.integer(0, request.maxTokens) : 0
  const ignoreEos = random.chance(0.2)
  const sampling = {
    ...request.sampling,
    penalties: { presence: random.between(-1, 1), frequency: random.between(-0.5, 1), from },
    ...(random.chance(0.5) ? { bias: [[random.integer(0, VOCABULARY - 2), random.pick([-100, 0.5])] as const] } : {}),
    ...(minTokens === 0 || ignoreEos ? {} : { barred: { tokens: [END], before: from + minTokens } }),
  }
  return { ...plan, request: { ...request, minTokens, ignoreEos, sampling } }
}

/** What is acknowledged is on two disks of three: no restart loses it. */
const copied = (random: Random, scenario: Scenario): Scenario =>
  random.chance(0.4) ? { ...scenario, copies: 3, lostTail: 0 } : scenario

const inTime = (random: Random, plan: SessionPlan): SessionPlan => {
  const deadlineMillis = random.chance(0.1) ? Math.ceil(random.exponential(random.pick([100, 1000, 5000]))) : null
  return { ...plan, request: { ...plan.request, deadlineMillis } }
}

/** What they have said by then is heard. */
export const OF_SUPERVISORS: ReadonlySet<Trouble> = new Set(["kill a supervisor", "drain a supervisor"])

/** With more places to go to and from, and sessions that last until they have to. */
const draining = (random: Random, scenario: Scenario): Scenario => {
  const { replica: alone } = scenario
  const apart = random.chance(0.3) // prompts are filled in by ranks of their own
  const replica: ReplicaShape = { ...alone, prefill: apart ? alone.base : null }
  const sessions = scenario.sessions.map((plan) => ({ ...plan, request: lasting(random, plan.request, replica) }))
  const [first, ...more] = sessions
  if (first === undefined) return scenario
  const well = random.chance(0.3) // all the rest, or all but supervisors
  const troubles = scenario.troubles.filter((trouble) => random.chance(0.5) && OF_SUPERVISORS.has(trouble))
  const rest = well ? { troubles, faults: { ...scenario.faults, loss: 0, double: 0, late: 0 } } : {}
  const hectic = scenario.computeMillis * random.pick([3, 10, 30])
  const patient = random.pick([200, 1000, 4000])
  const drains = Array.from(
    { length: random.integer(1, 4) },
    (_, i): Drain => ({
      at: random.pick([first, ...more]).askedAt + i * hectic + random.exponential(hectic),
      millis: random.exponential(patient),
    }),
  )
  const places = { replicas: random.integer(1, 2), hosts: random.integer(2, 3) }
  return { ...scenario, ...rest, ...places, replica, sessions, drains, kvTokens: random.pick([400, 800, 5000]) }
}

const MOST_TOKENS = 39 // the longest prompt and these have room everywhere

/** The same session from another last token on, of which it has most to say. */
const lasting = (random: Random, request: GenerateRequest, { base }: ReplicaShape): GenerateRequest => {
  const maxTokens = random.integer(request.maxTokens, MOST_TOKENS)
  const prompts = Array.from({ length: VOCABULARY - 1 }, (_, token) => withLast(request.prompt, token))
  const lengthOf = (prompt: GenerateRequest["prompt"]) => answer({ ...request, maxTokens, prompt }, base.model).length
  const [first, ...others] = prompts.map((prompt) => ({ prompt, length: lengthOf(prompt) }))
  const longest = others.reduce((best, one) => (one.length > (best?.length ?? 0) ? one : best), first)
  return { ...request, maxTokens, prompt: longest?.prompt ?? request.prompt }
}

const withLast = ([first, ...others]: GenerateRequest["prompt"], token: number): GenerateRequest["prompt"] => [
  first,
  ...others.slice(0, -1),
  token,
]

/** The ranks have been placed, and are ready, by then, unless something is in the way. */
const PLACED_MILLIS = 1_500

const drawStill = (random: Random): Scenario => {
  const calmAt = PLACED_MILLIS + random.integer(1, 6) * 1000
  const begin = random.between(300, PLACED_MILLIS + (calmAt - PLACED_MILLIS) * 0.7)
  const common = drawTokens(random, random.integer(16, 60))
  const bad = random.chance(0.5) ? 0 : random.pick([0.001, 0.01, 0.03])
  return {
    ...{ replica: drawReplica(random), replicas: random.integer(1, 2), deployments: random.chance(0.3) ? 2 : 1 },
    ...{ standby: random.chance(0.4), hosts: random.integer(1, 3), supervisors: random.integer(1, 3) },
    sessions: Array.from({ length: random.integer(1, 3) }, (_, i) =>
      drawSession(random, `s${i}`, { begin, calmAt, common }),
    ),
    faults: {
      delayMillis: random.pick([0.2, 1, 5]),
      loss: random.chance(0.7) ? 0 : bad,
      double: random.chance(0.5) ? 0 : bad,
      late: random.chance(0.5) ? 0 : bad,
    },
    troubles: TROUBLES.filter(() => random.chance(0.5)),
    troubleMillis: random.pick([100, 300, 1000]),
    calmAt,
    drift: random.pick([0, 0.01, 0.2]),
    computeMillis: random.pick([3, 30, 150]),
    diskMillis: random.pick([0.3, 3, 30]),
    slowDisk: random.pick([0, 0.02, 0.1]),
    lostTail: random.chance(0.6) ? 0 : random.integer(1, 5),
    duplicatesFirst: random.chance(0.5),
    copies: 1,
    limits: { kvTokens: random.pick([400, 600, 5000]), queue: 100, clientSessions: null },
    keepMillis: random.pick([0, 500, 2000]),
    ...{ drains: [], kvTokens: Number.POSITIVE_INFINITY },
  }
}

const STRATEGIES: readonly [Strategy, ...ReadonlyArray<Strategy>] = ["single", "pipeline", "layer"]

const drawReplica = (random: Random): ReplicaShape => {
  const drawGroup = (salt: number, layers: number): GroupShape => {
    const strategy = random.pick(STRATEGIES)
    const ranks = strategy === "single" ? 1 : random.integer(1, 3)
    return { strategy, ranks, model: { layers, salt } }
  }
  const fuzzy = random.integer(1, 3)
  const base = drawGroup(17, random.integer(3, 5))
  // A draft of the base's own weights is right whenever its passes are exact, so trees are accepted.
  const alike = random.chance(0.6)
  const draft = random.chance(0.7) ? drawGroup(alike ? 17 : 99, alike ? base.model.layers : 3) : null
  return { fuzzy, base, draft, prefill: null }
}

const drawTokens = (random: Random, length: number): ReadonlyArray<number> =>
  Array.from({ length }, () => random.integer(0, VOCABULARY - 2))

interface Among {
  readonly begin: number // about when sessions are asked for
  readonly calmAt: number
  readonly common: ReadonlyArray<number> // how several prompts begin
}

const drawSession = (random: Random, session: string, { begin, calmAt, common }: Among): SessionPlan => {
  const own = drawTokens(random, random.chance(0.1) ? random.integer(100, 300) : random.integer(1, 12))
  const prompt: [number, ...ReadonlyArray<number>] = [1, ...(random.chance(0.4) ? common : []), ...own]
  const width = random.integer(1, 3)
  const shape = { depth: random.integer(1, 4), width, nodes: random.integer(1, 8) }
  return {
    deployment: random.integer(0, 1),
    askedAt: begin + random.exponential(random.pick([50, 500])),
    cancelledAt: random.chance(0.1) ? random.between(begin, calmAt) : null,
    readers: random.integer(1, 2),
    request: {
      ...{
        session,
        prompt,
        maxTokens: random.integer(1, 24),
        minTokens: 0,
        ignoreEos: false,
        sampling: SAMPLING,
        stop: [],
      },
      speculation: random.pick<GenerateRequest["speculation"]>(["none", "adaptive", shape, shape]),
      fuzzy: random.integer(1, 3),
      promptLogprobs: prompt.length % 5 === 0 ? 0 : null,
      ...{ trace: false, logprobs: 0, model: "hash", client: null, acceptedAt: 0 },
      ...{ deadlineMillis: null, interestMillis: null, answerTo: null, after: 0 },
    },
  }
}
