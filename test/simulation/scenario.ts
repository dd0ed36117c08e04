// What a seed stands for: the shape of the cluster, the sessions, and how bad the world is to them.
import type { Limits } from "../../src/supervisor/admission.ts"
import type { Strategy } from "../../src/wire/deployment.ts"
import type { GenerateRequest } from "../../src/workflow/generation.ts"
import { VOCABULARY } from "./engine.ts"
import type { Faults } from "./network.ts"
import type { Random } from "./random.ts"
import type { ReplicaShape } from "./replica.ts"

/** What happens to the world while it is troubled; each has a weight. */
export const TROUBLES = [
  "kill a rank",
  "stop a rank",
  "cut a rank off",
  "kill a supervisor",
  "drain a supervisor",
  "stop a supervisor",
  "cut a supervisor off",
  "partition",
  "restart the server",
] as const
export type Trouble = (typeof TROUBLES)[number]

export interface SessionPlan {
  readonly request: GenerateRequest
  readonly askedAt: number
  readonly cancelledAt: number | null
  readonly readers: number
}

export interface Scenario {
  readonly replicas: ReadonlyArray<ReplicaShape>
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
  readonly limits: Limits
  readonly keepMillis: number // KV of a session that has ended
}

const SAMPLING = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 0n }

export const draw = (random: Random): Scenario => {
  const replicas = Array.from({ length: random.integer(1, 2) }, (_, i) => drawReplica(random, i + 1))
  // All replicas are of one deployment: the same models, the same split.
  const [first] = replicas
  const same = replicas.map((replica, i) => (first === undefined || i === 0 ? replica : renumbered(first, i + 1)))
  const calmAt = random.integer(1, 6) * 1000
  const begin = random.between(300, calmAt * 0.7)
  const common = drawTokens(random, random.integer(16, 60))
  const bad = random.chance(0.5) ? 0 : random.pick([0.001, 0.01, 0.03])
  return {
    replicas: same,
    supervisors: random.integer(1, 3),
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
    limits: { kvTokens: random.pick([400, 600, 5000]), queue: 100, clientSessions: null },
    keepMillis: random.pick([0, 500, 2000]),
  }
}

const STRATEGIES: readonly [Strategy, ...ReadonlyArray<Strategy>] = ["single", "pipeline", "layer"]

const drawReplica = (random: Random, epoch: number): ReplicaShape => {
  const fuzzy = random.integer(1, 3)
  const drawGroup = (group: "base" | "draft", salt: number, layers: number) => {
    const strategy = random.pick(STRATEGIES)
    const ranks = strategy === "single" ? 1 : random.integer(1, 3)
    return { group, replica: epoch, strategy, ranks, model: { layers, salt }, fuzzy }
  }
  const base = drawGroup("base", 17, random.integer(3, 5))
  // A draft of the base's own weights is right whenever its passes are exact, so trees are accepted.
  const alike = random.chance(0.6)
  const draft = random.chance(0.7) ? drawGroup("draft", alike ? 17 : 99, alike ? base.model.layers : 3) : null
  return { epoch, base, draft }
}

const renumbered = ({ base, draft }: ReplicaShape, epoch: number): ReplicaShape => ({
  epoch,
  base: { ...base, replica: epoch },
  draft: draft && { ...draft, replica: epoch },
})

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
    askedAt: begin + random.exponential(random.pick([50, 500])),
    cancelledAt: random.chance(0.1) ? random.between(begin, calmAt) : null,
    readers: random.integer(1, 2),
    request: {
      ...{ session, prompt, maxTokens: random.integer(1, 24), sampling: SAMPLING, stop: [] },
      speculation: random.pick<GenerateRequest["speculation"]>(["none", "adaptive", shape, shape]),
      fuzzy: random.integer(1, 3),
      ...{ trace: false, logprobs: 0, model: "hash", client: null, acceptedAt: 0 },
      ...{ deadlineMillis: null, interestMillis: null, answerTo: null, after: 0 },
    },
  }
}
