// One seed, from the beginning to the verdict. What has to hold:
// - every accepted session ends, with exactly the tokens that an undisturbed one has, and their log-probabilities; one that
//   has lost its ranks again and again without coming further may end as failed, with the reason, and a part of its tokens,
//   and one that has a deadline with that, when it is over and soon after;
// - no reader sees a token twice, out of order, or not at all;
// - an epoch of a session has one owner, and after his first entry nothing of a former owner is in the log, but where the
//   server has lost the log's tail: then what slipped in is nobody's;
// - in the end no live rank holds KV, and no record of a session is left;
// - where nothing goes wrong, no rank lacks KV that it should have, whatever moves, and what is not needed is freed at once;
// - nothing of the product throws what it does not mean to;
// - no pass is answered with another one's answer.

import crypto from "node:crypto"
import { syncBuiltinESMExports } from "node:module"
import type { GenerateRequest } from "../../src/generation/request.ts"
import type { Answer, LogEntry, LoggedToken } from "../../src/wire/infer.ts"
import { subjectsOf } from "../../src/wire/subjects.ts"
import { type Client, Cluster } from "./cluster.ts"
import { answer, type ModelShape, scores } from "./engine.ts"
import type { Read } from "./ledger.ts"
import type { Mutation } from "./mutation.ts"
import { Random } from "./random.ts"
import type { Reader } from "./reader.ts"
import { draw, type Scenario } from "./scenario.ts"
import { EPOCH, World } from "./world.ts"

/** A session is given up when it has lost its ranks so often in a row. */
const LOSSES = 3

/** How long the last sessions may take when all goes well again. */
const PATIENCE_MILLIS = 240_000
/** After the last session has ended, until all is freed. */
const FREEING_MILLIS = 60_000
/** What a rank has not heard of, it frees by itself after a while. */
const UNUSED_MILLIS = 16 * 60_000

export interface Verdict {
  readonly seed: number
  readonly violations: ReadonlyArray<string>
  readonly events: number
  readonly accepted: number
  readonly owners: number // in all logs, beyond the first
  readonly tokens: number
  readonly givenUp: number // sessions whose ranks were lost again and again
  readonly overdue: number // sessions that their deadline has ended
  readonly moves: number // of sessions, with their KV
  readonly filled: number // prompts, by ranks of their own
  readonly vain: number // hand-overs of KV that did not come
}

export interface SimulateOptions {
  readonly mutation?: Mutation
  readonly note?: (line: string) => void
}

export const simulate = (seed: number, { mutation, note }: SimulateOptions = {}): Verdict => {
  const random = new Random(seed)
  const scenario = draw(seed, random)
  const world = new World(random, note ?? null)
  note?.(JSON.stringify(scenario, (_, value) => (typeof value === "bigint" ? `${value}` : value)))
  return atTimesOf(world, () => {
    const cluster = new Cluster(world, scenario, mutation ?? null)
    const hasEnded = ({ session, refused, readers }: Client): boolean =>
      refused !== null || (session !== null && readers.every(({ end, expired }) => end !== null || expired))
    const asked = () => cluster.clients.length === scenario.sessions.length
    const ended = () => world.now > scenario.calmAt && asked() && cluster.clients.every(hasEnded)
    const freed = () => cluster.ranks.every(({ engine }) => engine === null || engine.sessions().length === 0)
    world.run(scenario.calmAt + PATIENCE_MILLIS, ended)
    world.run(world.now + PATIENCE_MILLIS, () => cluster.ledger.records.length === 0) // one that nobody has heard of runs, too
    world.run(world.now + FREEING_MILLIS, freed)
    // What a supervisor that was killed has kept for others, the ranks free by themselves, later.
    const kept = cluster.lossless && (cluster.well || scenario.keepMillis === 0) ? keptBy(cluster) : []
    cluster.leaveRanksAlone()
    world.run(world.now + UNUSED_MILLIS, freed)
    return verdictOf(seed, scenario, world, cluster, kept)
  })
}

const keptBy = ({ ranks }: Cluster): ReadonlyArray<string> =>
  ranks.flatMap(({ process, engine }) =>
    (engine?.sessions() ?? []).map((session) => `${process.name} holds KV of ${session}`),
  )

/** What the product takes from its surroundings without asking: times are the world's here, and names follow from the seed. */
const atTimesOf = <A>(world: World, use: () => A): A => {
  const real = { now: performance.now, date: Date.now, uuid: crypto.randomUUID, int: crypto.randomInt }
  let names = 0
  performance.now = () => world.now
  Date.now = () => EPOCH + Math.floor(world.now)
  Object.assign(crypto, {
    randomUUID: () => `00000000-0000-4000-8000-${`${names++}`.padStart(12, "0")}`,
    randomInt: (most: number) => world.random.integer(0, most - 1),
  })
  syncBuiltinESMExports()
  try {
    return use()
  } finally {
    performance.now = real.now
    Date.now = real.date
    Object.assign(crypto, { randomUUID: real.uuid, randomInt: real.int })
    syncBuiltinESMExports()
  }
}

const verdictOf = (
  seed: number,
  scenario: Scenario,
  world: World,
  cluster: Cluster,
  kept: ReadonlyArray<string>, // when it should have been freed
): Verdict => {
  const logs = cluster.clients.map((client) => logOf(client, cluster).map(({ entry }) => entry))
  const { model } = scenario.replica.base
  return {
    seed,
    events: world.events,
    overdue: logs.flat().filter((entry) => entry._tag === "End" && entry.finishReason === "deadline").length,
    ...{ moves: cluster.moves, filled: cluster.filled, vain: cluster.vain },
    accepted: cluster.clients.filter(({ session }) => session !== null).length,
    owners: logs.flat().filter(({ _tag }) => _tag === "Owner").length,
    givenUp: logs.flat().filter((entry) => entry._tag === "End" && isGivenUp(entry)).length,
    tokens: logs.flat().reduce((sum, entry) => sum + (entry._tag === "Tokens" ? entry.tokens.length : 0), 0),
    violations: [
      ...world.defects,
      ...cluster.violations,
      ...cluster.ledger.violations,
      ...(scenario.lostTail === 0 ? logs.flatMap((log, i) => fenced(`s${i}`, log)) : []),
      ...cluster.clients.flatMap((client) => untimely(client, scenario, cluster)),
      ...cluster.clients.flatMap(({ plan, session, refused }) =>
        session === null ? [`${plan.request.session} is not accepted: ${refused ?? "no answer"}`] : [],
      ),
      ...cluster.clients.flatMap((client) =>
        client.session === null ? [] : told(client, model, cluster.troubles + scenario.drains.length),
      ),
      ...kept.map((kept) => `nothing is lost, and yet ${kept}`),
      ...keptBy(cluster),
      ...cluster.ledger.records.map((id) => `the record of ${id} is left`),
    ],
  }
}

/** How long an end may take that comes with the deadline, where nothing goes wrong. */
const ENDING_MILLIS = 1_000

/** A deadline counts from the log's beginning, and not from its last owner's. */
const untimely = (client: Client, { slowDisk, lostTail, drift }: Scenario, cluster: Cluster): ReadonlyArray<string> => {
  const { session, deadlineMillis } = client.plan.request
  const [begin, ...others] = logOf(client, cluster)
  const end = others.findLast(({ entry }) => entry._tag === "End")
  if (begin === undefined || end === undefined || deadlineMillis === null || lostTail > 0) return []
  const over = end.at - begin.at - deadlineMillis
  const early = end.entry._tag === "End" && end.entry.finishReason === "deadline" && over < -drift * deadlineMillis // its owner's clock may be fast
  const late = cluster.well && slowDisk === 0 && over > ENDING_MILLIS
  return early || late ? [`${session} ends ${over.toFixed(0)} ms after its deadline`] : []
}

const logOf = ({ deployment, session }: Client, { ledger }: Cluster): ReadonlyArray<Read> =>
  session === null ? [] : ledger.read(subjectsOf(deployment.name).tokens(session))

const fenced = (session: string, log: ReadonlyArray<LogEntry>): ReadonlyArray<string> => {
  let epoch = 0
  return log.flatMap((entry) => {
    const late = entry.epoch < epoch
    epoch = Math.max(epoch, entry.epoch)
    return late ? [`the log of ${session} has ${entry._tag} of epoch ${entry.epoch} after one of epoch ${epoch}`] : []
  })
}

/** What an undisturbed session says. */
const undisturbed = ({ plan: { request } }: Client, model: ModelShape): ReadonlyArray<LoggedToken> =>
  answer(request, model).map(({ token, logProb }) => ({
    ...{ id: token, text: "", origin: "plain", logProb },
  }))

const told = (client: Client, model: ModelShape, troubles: number): ReadonlyArray<string> => {
  const whole = undisturbed(client, model)
  const { cancelledAt, request } = client.plan
  const circumstances = { cancelled: cancelledAt !== null, deadline: request.deadlineMillis !== null }
  return client.readers.flatMap((reader) => [
    ...tokensWrong(reader, whole),
    ...promptWrong(reader, request, model),
    ...endWrong(reader, { ...circumstances, troubles, length: whole.length }),
  ])
}

const tokensWrong = ({ session, tokens }: Reader, whole: ReadonlyArray<LoggedToken>): ReadonlyArray<string> => {
  const wrong = tokens.findIndex(({ id, logProb }, i) => id !== whole[i]?.id || logProb !== whole[i]?.logProb)
  if (wrong === -1) return []
  const said = (tokens: ReadonlyArray<LoggedToken>) => tokens.map(({ id }) => id).join(" ")
  return [`a reader of ${session} has ${said(tokens)}, and not ${said(whole)}: token ${wrong}`]
}

/** Before the first token, and before a good end, all of the prompt was told where that was asked for. */
const promptWrong = (reader: Reader, request: GenerateRequest, model: ModelShape): ReadonlyArray<string> => {
  const { session, prompt, tokens, end } = reader
  const ended = end?.finishReason === "stop" || end?.finishReason === "length"
  if (request.promptLogprobs === null || (tokens.length === 0 && !ended)) return []
  const told = JSON.stringify(prompt.map(({ id, logProb = null }) => [id, logProb]))
  const all = [null, ...scores(request.prompt, model)].map((logProb, i) => [request.prompt[i], logProb])
  return told === JSON.stringify(all) ? [] : [`a reader of ${session} is told another prompt: ${told}`]
}

interface Circumstances {
  readonly cancelled: boolean
  readonly deadline: boolean // whether it had one
  readonly troubles: number
  readonly length: number // of the undisturbed answer
}

const endWrong = (reader: Reader, { cancelled, deadline, troubles, length }: Circumstances): ReadonlyArray<string> => {
  const { session, tokens, end, expired } = reader
  if (expired) return [`a reader of ${session} is told that it has expired`]
  if (end === null) return [`${session} does not end`]
  const { finishReason, error } = end
  if (finishReason === "cancelled" && cancelled) return []
  if (finishReason === "deadline" && deadline) return []
  if (isGivenUp({ finishReason, error }) && troubles >= LOSSES) return []
  if (finishReason !== "stop" && finishReason !== "length") return [`${session} ends as ${finishReason}: ${error}`]
  return tokens.length === length ? [] : [`${session} ends with ${tokens.length} tokens of ${length}`]
}

const isGivenUp = ({ finishReason, error }: Pick<Answer, "finishReason" | "error">): boolean =>
  finishReason === "failed" && /has brought down its ranks/.test(error)
