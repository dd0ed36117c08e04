// Do other people's clients understand the gateway? Each of them, unchanged, is asked for all that it can do; what it has to
// see comes from Chorus's own client over NATS.
import { connect } from "../src/client/index.ts"
import type { Benchmark } from "./benchmark.ts"
import { ABILITIES, HELD_ABILITIES } from "./clients/abilities.ts"
import { askedOf, type Expected, expectedOf } from "./clients/expected.ts"
import { holdDeployment } from "./clients/hold.ts"
import { installClients } from "./clients/installation.ts"
import { CANDIDATES } from "./clients/roster.ts"
import { MODEL, type Server, startServer } from "./clients/server.ts"
import { type Absent, judged, startTrial, type Trial, tryAlone, tryHangUp } from "./clients/trial.ts"
import { THREADS } from "./machine.ts"

const SILENCES = 2 // before a stream goes on

export const clients: Benchmark = {
  name: "clients",
  question: "which of other people's clients understand the gateway, and in what",
  ratios: { holds: "abilities that hold, of those that the clients have" },
  run: async ({ say }) => {
    const environments = await installClients(say)
    say("starting chorus up")
    await using server = await startServer()
    const expected = await expectedOf(server)
    const scene = { server, environments, asked: askedOf(server, expected) }
    const rows: Array<Trial | Absent> = []
    await using trials = new AsyncDisposableStack()
    const waiting = [...CANDIDATES.entries()]
    const work = async (): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        const [number, candidate] = next
        const trial = await startTrial(candidate, scene, number)
        rows[number] = trial
        if ("absent" in trial) continue
        trials.use(trial)
        say(`${trial.name} ${trial.version}`)
        await tryAlone(trial, expected)
      }
    }
    const worked = await Promise.allSettled(Array.from({ length: THREADS }, work)) // all have ended before a failure is told
    for (const one of worked) if (one.status === "rejected") throw one.reason
    const present = rows.filter((row) => "driver" in row)
    await tryTogether(present, server, expected)
    return reportOf(rows)
  },
}

/** Every client at the same time, for each waits for as long. */
const tryTogether = async (trials: ReadonlyArray<Trial>, server: Server, expected: Expected): Promise<void> => {
  await using client = await connect({ url: server.nats, keys: server.keys, deployment: MODEL })
  const hold = await holdDeployment(server.http)
  await Promise.all(
    trials.filter(({ driver }) => driver.abilities.has("hang-up")).map((trial) => tryHangUp(trial, client)),
  )
  hold.letGo()
  for (const { name, holds } of HELD_ABILITIES.filter(({ name }) => name !== "hang-up")) {
    const able = trials.filter(({ driver }) => driver.abilities.has(name))
    const hold = await holdDeployment(server.http)
    for (const { relay } of able) relay.forget()
    const heard = able.map(({ relay }) => relay.silent(SILENCES).then(() => true))
    const answers = able.map(({ driver }) => driver.ask(name))
    const silent = await Promise.all(able.map((_, i) => Promise.race([heard[i], answers[i]?.then(() => false)])))
    hold.letGo()
    for (const [i, { outcomes }] of able.entries()) {
      const answer = await answers[i]
      if (answer === undefined) continue
      const reason = judged(answer, holds, expected)
      outcomes.set(name, reason ?? (silent[i] === true ? null : "the stream ended before it was silent"))
    }
  }
}

const SHOWN = [...ABILITIES, ...HELD_ABILITIES]

const reportOf = (rows: ReadonlyArray<Trial | Absent>) => {
  const outcomes = rows.flatMap((row) =>
    "absent" in row
      ? [{ client: row.name, ability: "is there", reason: row.absent }]
      : [...row.outcomes].map(([ability, reason]) => ({ client: `${row.name} ${row.version}`, ability, reason })),
  )
  const failures = outcomes.flatMap(({ client, ability, reason }) =>
    reason === null ? [] : [`${client}, ${ability}: ${reason}`],
  )
  return {
    ratios: { holds: (outcomes.length - failures.length) / outcomes.length },
    details: outcomes,
    failures,
    title: "Clients",
    markdown: [
      "Clients as their makers release them, over HTTP, against `chorus up` with the demo pair. + holds, – the client has no such thing (or none that it tells), **no** does not hold. What a client has to see (text, end, usage, log-probabilities) is what Chorus's own client sees over NATS for the same request and seed.",
      table(rows),
      SHOWN.map(({ heading, meaning }) => `- ${heading}: ${meaning}`).join("\n"),
    ].join("\n\n"),
  }
}

const table = (rows: ReadonlyArray<Trial | Absent>): string =>
  [
    `| client | ${SHOWN.map(({ heading }) => heading).join(" | ")} |`,
    `|---|${SHOWN.map(() => "---|").join("")}`,
    ...rows.map((row) =>
      "absent" in row
        ? `| ${row.name} (not installed) |${SHOWN.map(() => " |").join("")}`
        : `| ${row.name} ${row.version} | ${SHOWN.map(({ name }) => mark(row.outcomes.get(name))).join(" | ")} |`,
    ),
  ].join("\n")

const mark = (outcome: string | null | undefined): string =>
  outcome === undefined ? "–" : outcome === null ? "+" : "**no**"
