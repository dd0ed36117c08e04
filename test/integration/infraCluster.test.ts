// infra/nats/cluster.conf as it stands: three real servers, and a whole deployment on them. Its tokens are on three disks,
// and losing a server, the stream's leader, costs none of them. The dashboard's queries are held to the metrics of a
// gateway of that deployment.
import { type ChildProcess, spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { once } from "node:events"
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { jetstreamManager } from "@nats-io/jetstream"
import { parser } from "@prometheus-io/lezer-promql"
import { Effect, Schema, type Scope } from "effect"
import { afterAll, beforeAll, expect, test } from "vitest"
import { parse } from "yaml"
import { keyIn } from "../../src/bus/access.ts"
import type { Bus } from "../../src/bus/bus.ts"
import { dial } from "../../src/bus/dial.ts"
import { freePorts } from "../../src/chaos/servers.ts"
import { openStore } from "../../src/durable/store.ts"
import { addOverseer, makeKeys } from "../../src/natsServer/keyFolder.ts"
import { findNatsServer } from "../../src/natsServer/natsServer.ts"
import { openBucket } from "../../src/store/bucket.ts"
import { onNats } from "../../src/store/jetStream.ts"
import type { Storage } from "../../src/store/storage.ts"
import { TokenLog } from "../../src/store/tokenLog.ts"
import { ENVIRONMENT } from "../../src/wire/deployment.ts"
import type { LogEntry } from "../../src/wire/infer.ts"
import { TOKEN_STREAM } from "../../src/wire/subjects.ts"
import { Cluster } from "./cluster.ts"
import { type Gateway, startGateway } from "./gateways.ts"
import { manifestsIn } from "./manifests.ts"
import { PROMPT, TREE } from "./requests.ts"

const INFRA = join(import.meta.dirname, "../../infra")
const MAIN = join(import.meta.dirname, "../../src/cli/main.ts")
const DEMO_FOLDER = join(import.meta.dirname, "../../models/demo")
const NAMES = ["nats-1", "nats-2", "nats-3"]
const REQUEST = {
  prompt: PROMPT,
  maxTokens: 40,
  speculation: TREE,
} as const

const folder = mkdtempSync(join(tmpdir(), "chorus-test-cluster-"))
const keys = join(folder, "all-keys")
const servers = new Map<string, ChildProcess>()
const actors: Array<ChildProcess> = []
let urls: ReadonlyArray<string>
let cluster: Cluster
let gateway: Gateway

/** As the configuration's first lines say; ready when the cluster takes streams. */
const startServers = async (): Promise<ReadonlyArray<string>> => {
  const { path } = await Effect.runPromise(findNatsServer)
  await Effect.runPromise(makeKeys({ folder: keys, deployments: [], clients: [], servers: [...NAMES, "127.0.0.1"] }))
  addOverseer(keys)
  cpSync(join(keys, "server"), join(folder, "keys"), { recursive: true })
  cpSync(join(INFRA, "nats/cluster.conf"), join(folder, "cluster.conf"))
  const ports = await freePorts(9)
  const port = (kind: number, server: number): number => ports[3 * kind + server] ?? 0
  const routes = NAMES.map((_, i) => `nats://127.0.0.1:${port(1, i)}`)
  for (const [i, name] of NAMES.entries()) {
    const own = ["--name", name, "--addr", "127.0.0.1", "--port", `${port(0, i)}`, "--http_port", `${port(2, i)}`]
    const joined = ["--cluster", `${routes[i]}`, "--routes", routes.join(","), "--store_dir", join(folder, name)]
    servers.set(name, spawn(path, ["-c", "cluster.conf", ...own, ...joined], { cwd: folder, stdio: "ignore" }))
  }
  await Promise.all(NAMES.map((_, i) => healthy(`http://127.0.0.1:${port(2, i)}/healthz`)))
  return NAMES.map((_, i) => `nats://127.0.0.1:${port(0, i)}`)
}

const healthy = async (url: string): Promise<void> => {
  for (;;) {
    const status = await fetch(url).then(
      (answer) => answer.status,
      () => 0,
    )
    if (status === 200) return
    await new Promise((again) => setTimeout(again, 100))
  }
}

beforeAll(async () => {
  urls = await startServers()
  cluster = await Cluster.start({ name: "demo", nats: urls.join(","), keys })
  gateway = await startGateway({ url: urls.join(","), keys })
})
afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]()
  await cluster?.[Symbol.asyncDispose]()
  await Promise.all(
    [...actors, ...servers.values()].map(async (child) => {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill("SIGKILL")
      await once(child, "exit")
    }),
  )
  rmSync(folder, { recursive: true, force: true })
})

/** A connection that may look at every stream. */
const overseeing = () => dial({ url: urls.join(","), access: keyIn(join(keys, "overseer"), "client") })

const tokenStream = async () => {
  const connection = await overseeing()
  try {
    return await (await jetstreamManager(connection)).streams.info(TOKEN_STREAM)
  } finally {
    await connection.close()
  }
}

test("the dashboard asks for metrics that a gateway has, and in Prometheus's own language", async () => {
  const { maxTokens: max_tokens, ...request } = REQUEST
  const sampling = { temperature: 0, top_p: 1, top_k: 0 }
  const drafting = await post("/playground/generate", { model: "demo", max_tokens, ...request, ...sampling })
  expect(drafting).toContain('"_tag":"End"')
  expect(await post("/v1/completions", { model: "demo", prompt: "x", max_tokens: 8 })).toContain('"usage"')
  const page = await metricsWith("chorus_supervisor_waiting", "chorus_rank_ready")
  const known = new Set([...page.matchAll(/^(\w+)(?:\{| )/gm)].map(([, name]) => name))
  const queries = queriesOf(JSON.parse(readFileSync(join(INFRA, "grafana/chorus.json"), "utf8")))
  expect(queries.length).toBeGreaterThan(20)
  expect(known).toContain(scalesBy()) // the autoscaler's, too
  for (const query of queries) {
    const { errors, metrics } = read(query)
    expect({ query, errors }).toEqual({ query, errors: [] })
    expect(metrics.length).toBeGreaterThan(0)
    for (const metric of metrics) expect(known, query).toContain(metric)
  }
})

const post = async (path: string, body: object, url = gateway.url): Promise<string> => {
  const headers = { "content-type": "application/json" }
  const answer = await fetch(`${url}${path}`, { method: "POST", headers, body: JSON.stringify(body) })
  expect(answer.status).toBe(200)
  return answer.text()
}

/** The page when the gateway has heard a beat of each kind; a supervisor's comes once a second. */
const metricsWith = async (...names: ReadonlyArray<string>): Promise<string> => {
  for (;;) {
    const page = await (await fetch(`${gateway.url}/metrics`)).text()
    if (names.every((name) => page.includes(`${name}{`))) return page
    await new Promise((again) => setTimeout(again, 100))
  }
}

/** The metric that the number of supervisors depends on. */
const scalesBy = (): string => {
  const scaler = manifestsIn(join(INFRA, "kubernetes")).find(({ kind }) => kind === "HorizontalPodAutoscaler")
  return /"metric":\{"name":"(\w+)"/.exec(JSON.stringify(scaler?.content))?.[1] ?? ""
}

interface Dashboard {
  readonly panels: ReadonlyArray<{ readonly targets?: ReadonlyArray<{ readonly expr: string }> }>
}
const queriesOf = ({ panels }: Dashboard) =>
  panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr.replaceAll("$__rate_interval", "1m")))

/** The names of a query's metrics, and what Prometheus's grammar does not take. */
const read = (query: string) => {
  const errors: Array<string> = []
  const metrics: Array<string> = []
  parser.parse(query).iterate({
    enter: ({ type, name, from, to }) => {
      if (type.isError) errors.push(`at ${from}: ${query.slice(from)}`)
      if (name === "VectorSelector") metrics.push(/^\w+/.exec(query.slice(from, to))?.[0] ?? "")
    },
  })
  return { errors, metrics }
}

/** Whose keys a service has: the folder that it sees as /keys. */
const roleOf = (volumes: ReadonlyArray<string>): string =>
  volumes.map((volume) => /^\$\{KEYS:-..\/keys\}\/(\w+):\/keys:ro$/.exec(volume)?.[1]).find(Boolean) ?? ""

/** What compose starts: the command line of each actor, with the addresses of this machine. */
const composed = () => {
  const { services } = parse(readFileSync(join(INFRA, "compose.yaml"), "utf8"), { merge: true })
  const here: Record<string, string> = {
    [NAMES.map((name) => `nats://${name}:4222`).join(",")]: urls.join(","),
    "0.0.0.0": "127.0.0.1",
    "8080": "0",
  }
  return ["host-1", "host-2", "supervisor", "supervisor", "gateway"].map((name) => ({
    name,
    args: services[name].command.map((arg: string) => here[arg] ?? arg),
    environment: { [ENVIRONMENT.natsKeys]: join(keys, roleOf(services[name].volumes)) },
  }))
}

/** The command line; `said` ends with what it says when it is ready, or with all that it said. */
const chorus = (args: ReadonlyArray<string>, environment: Readonly<Record<string, string>>) => {
  const env = { ...process.env, ...environment }
  const child = spawn(process.execPath, [MAIN, ...args], { env, stdio: ["ignore", "pipe", "pipe"] })
  actors.push(child)
  const said = new Promise<string>((resolve) => {
    let text = ""
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (more: string) => {
        text += more
        if (/joined|serves/.test(text) && text.endsWith("\n")) resolve(text)
      })
    }
    child.once("close", () => resolve(text))
  })
  return { child, said, ended: once(child, "exit") }
}

test("what compose starts on the cluster serves a deployment, and ends in order", async () => {
  const services = composed().map(({ name, args, environment }) => ({ name, ...chorus(args, environment) }))
  const said = await Promise.all(services.map((service) => service.said))
  const http = /serves (http:\S+)/.exec(said.at(-1) ?? "")?.[1] ?? ""
  const deployment = JSON.parse(readFileSync(join(DEMO_FOLDER, "deployment.json"), "utf8"))
  const file = join(folder, "composed.json")
  const at = (group: { model: string }) => ({ ...group, model: join(DEMO_FOLDER, group.model) })
  const { base, draft } = deployment
  writeFileSync(file, JSON.stringify({ ...deployment, name: "composed", base: at(base), draft: at(draft) }))
  const operating = { [ENVIRONMENT.natsKeys]: join(keys, "operator") }
  await chorus(["deploy", file, "--nats", urls.join(",")], operating).ended
  const { text } = await cluster.generate({ ...REQUEST, speculation: "none" })
  const answer = await post(
    "/v1/completions",
    { model: "composed", prompt: REQUEST.prompt, max_tokens: 40, temperature: 0 },
    http,
  )
  expect(JSON.parse(answer).choices[0].text).toBe(text)
  const connection = await overseeing()
  const streams = await (await jetstreamManager(connection)).streams.list().next()
  await connection.close()
  const kept = streams.map(({ config }) => [config.name, config.num_replicas])
  expect(kept).toContainEqual(["KV_chorus_deployments", 3])
  expect(kept.filter(([, copies]) => copies !== 3)).toEqual([])
  await chorus(["rm", "composed", "--nats", urls.join(",")], operating).ended
  const stopped = (wanted: (name: string) => boolean) =>
    Promise.all(
      services
        .filter(({ name }) => wanted(name))
        .map(async ({ child, ended }) => {
          child.kill("SIGTERM")
          const [code] = await ended
          return code
        }),
    )
  const isHost = (name: string): boolean => name.startsWith("host")
  expect(await stopped(isHost)).toEqual([0, 0]) // while there is a supervisor that takes their ranks off
  expect(await stopped((name) => !isHost(name))).toEqual([0, 0, 0])
})

/** Of a connection to each of the three servers, by a supervisor's key. */
const onEach = <A, E>(use: Effect.Effect<A, E, Bus | Storage | Scope.Scope>) =>
  Effect.runPromise(
    Effect.forEach(
      urls,
      (url) => use.pipe(Effect.scoped, Effect.provide(onNats({ url, name: "writer", role: "supervisor", keys }))),
      { concurrency: "unbounded" },
    ),
  )

test("of three writers over the same revision on three servers one writes, and the others hear no error", async () => {
  const Count = Schema.Struct({ round: Schema.Int })
  const rounds = 200
  const written = Array.from({ length: rounds }, () => 0)
  const key = `race.${randomUUID()}`
  await onEach(
    Effect.gen(function* () {
      const bucket = yield* openBucket("chorus_executions", Count)
      for (let round = 0; round < rounds; ) {
        const before = yield* bucket.get(key)
        round = (before?.value.round ?? -1) + 1
        if (round === rounds) return
        const revision = yield* bucket.replace(key, { round }, before?.revision ?? 0)
        if (revision !== null) written[round] = (written[round] ?? 0) + 1
      }
    }),
  )
  expect(written.filter((writers) => writers !== 1)).toEqual([])
})

test("what is written once is the same to all its writers, on whichever server", async () => {
  const options = { bucket: "chorus_executions", namespace: "race", keepMillis: 60_000 }
  const id = randomUUID()
  const told = await onEach(
    Effect.gen(function* () {
      const store = yield* openStore(options)
      const own = randomUUID()
      return yield* Effect.forEach(
        Array.from({ length: 60 }, (_, i) => `part ${i}`),
        (name) => store.writeOnce("activity", id, name, own),
      )
    }),
  )
  expect(new Set(told.map((values) => JSON.stringify(values))).size).toBe(1)
  expect(told[0]).not.toContain(null)
})

test("of three that append after the same entry of a log one does, and each repetition finds its own", async () => {
  const session = randomUUID()
  const owners = await onEach(
    Effect.gen(function* () {
      const log = yield* TokenLog
      const entry = (at: number): LogEntry => ({ _tag: "Tokens", epoch: 1, at, tokens: [] })
      const own: Array<number> = []
      for (let at = 0; at < 60; ) {
        const entries = yield* log.read(session)
        at = entries.length
        if (at === 60) break
        const after = entries.at(-1)?.sequence ?? 0
        const sequence = yield* log
          .append(session, entry(at), after)
          .pipe(Effect.catchTag("LogMoved", () => Effect.succeed(null)))
        if (sequence !== null) own.push(sequence)
      }
      return own
    }).pipe(Effect.provide(TokenLog.layer({ name: "race" }))),
  )
  const sequences = owners.flat()
  expect(sequences).toHaveLength(60)
  expect(new Set(sequences).size).toBe(60)
})

test("each token is on three servers, and the one that leads may die while they come", async () => {
  const undisturbed = await cluster.generate(REQUEST)
  const before = await tokenStream()
  expect(before.config.num_replicas).toBe(3)
  expect(before.cluster?.replicas).toHaveLength(2)
  const leader = before.cluster?.leader ?? ""
  expect(NAMES).toContain(leader)
  const generation = await cluster.client.generate(REQUEST)
  const dying = servers.get(leader)
  let seen = 0
  for await (const _ of generation) if (++seen === 3) dying?.kill("SIGKILL")
  expect((await generation.ending()).tokens).toEqual(undisturbed.tokens)
  expect((await tokenStream()).cluster?.leader).not.toBe(leader)
})

test("Prometheus asks where compose has the gateway", () => {
  const { scrape_configs } = parse(readFileSync(join(INFRA, "prometheus.yml"), "utf8"))
  expect(scrape_configs[0].dns_sd_configs).toEqual([{ names: ["gateway"], type: "A", port: 8080 }])
})
