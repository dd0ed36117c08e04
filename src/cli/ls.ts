// chorus ls: the deployments of a server, and how each is: cold, activating, or ready, and where its replicas are.
import { Console, Effect, SubscriptionRef } from "effect"
import { Command } from "effect/cli"
import { openBuckets } from "../store/deployments.ts"
import type { StoredDeployment } from "../wire/deployment.ts"
import { COLD, type Replica, type Replicas } from "../wire/replicas.ts"
import * as flags from "./flags.ts"
import { onServer, serverFlags } from "./server.ts"
import { table } from "./table.ts"

export const ls = Command.make(
  "ls",
  { ...serverFlags, json: flags.jsonOf("print one array, an object for each deployment") },
  Effect.fnUntraced(function* ({ json, ...server }) {
    const all = yield* onServer(server, listed)
    yield* Console.log(json ? JSON.stringify(all, null, 2) : pageOf(all).join("\n"))
  }),
).pipe(
  Command.withDescription("List the deployments: cold, activating or ready, and where their replicas are"),
  Command.withExamples([
    { command: "chorus ls", description: "Of what `chorus up` runs on this machine" },
    { command: "chorus ls --json | jq '.[] | {name, state}'", description: "For a script" },
  ]),
)

const listed = Effect.gen(function* () {
  const { deployments, replicas } = yield* openBuckets
  const stored = yield* SubscriptionRef.get(yield* deployments.follow)
  const records = yield* SubscriptionRef.get(yield* replicas.follow)
  return [...stored]
    .map(([name, { value }]) => lineOf(value, records.get(name)?.value ?? COLD))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
})

type Listed = ReturnType<typeof lineOf>

const lineOf = (
  { name, base, draft, idleTimeoutMillis, replicas: { min, max } }: StoredDeployment,
  record: Replicas,
) => ({
  name,
  state: stateOf(record.replicas),
  replicas: { ready: record.replicas.filter(({ state }) => state === "ready").length, min, max },
  epoch: record.epoch,
  idleTimeoutMillis,
  base: base.model,
  draft: draft?.model ?? null,
  placed: record.replicas.map(({ epoch, state, ranks, standbys }) => ({
    epoch,
    state,
    ranks: ranks.map(({ group, rank, host, device }) => ({ group, rank, host, device })),
    standbys: standbys.map(({ group, host, device }) => ({ group, host, device })),
  })),
  failure: record.failure?.reason ?? null,
})

/** One that is ready makes the deployment ready. */
const stateOf = (replicas: ReadonlyArray<Replica>): "cold" | "activating" | "ready" => {
  if (replicas.some(({ state }) => state === "ready")) return "ready"
  return replicas.some(({ state }) => state === "activating") ? "activating" : "cold"
}

const pageOf = (all: ReadonlyArray<Listed>): ReadonlyArray<string> => {
  if (all.length === 0) return ["no deployments. `chorus deploy FILE` adds one"]
  const lines = table(
    ["deployment", "state", "replicas", "idle after", "placed"].map((title) => ({ title, align: "left" as const })),
    all.map((one) => [
      one.name,
      one.state,
      `${one.replicas.ready} of ${one.replicas.min}..${one.replicas.max}`,
      one.idleTimeoutMillis === null ? "never" : `${one.idleTimeoutMillis / 1000} s`,
      placedOf(one) || "-",
    ]),
  )
  return [...lines, ...all.flatMap(({ name, failure }) => (failure === null ? [] : [`${name}: ${failure}`]))]
}

/** a: base 0, draft 0, draft 1; b: draft 2, base standby */
const placedOf = ({ placed }: Listed): string => {
  const byHost = new Map<string, Array<string>>()
  for (const { ranks, standbys } of placed) {
    for (const { host, group, rank } of [...ranks, ...standbys.map((one) => ({ ...one, rank: "standby" }))]) {
      byHost.set(host, [...(byHost.get(host) ?? []), `${group} ${rank}`])
    }
  }
  return [...byHost].map(([host, ranks]) => `${host}: ${ranks.join(", ")}`).join("; ")
}
