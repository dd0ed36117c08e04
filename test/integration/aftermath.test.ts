// What is left after a kill: nothing spins, no log grows, and nats-server knows of as much as before: services, subscriptions,
// consumers, what the buckets hold. The actors are those that a user starts, on a server whose monitoring port is asked.
import { readFileSync } from "node:fs"
import { isDeepStrictEqual } from "node:util"
import { afterAll, beforeAll, expect, test } from "vitest"
import { freePort } from "../../bench/natsMonitor.ts"
import type { Client } from "../../src/client/index.ts"
import type { InferRequest } from "../../src/wire/infer.ts"
import { subjectsOf } from "../../src/wire/subjects.ts"
import { commandLine, type Started } from "./commandLine.ts"
import { SAMPLED } from "./requests.ts"
import { Fleet, kill, storedOf } from "./serverless.ts"

const REQUEST: InferRequest = { ...SAMPLED, maxTokens: 24 }

const WAIT = { timeout: 60_000, interval: 250 }

/** Of a process that waits: far from one that spins, whatever else the machine does. */
const MOST_LOAD = 0.5

/** Of stderr, of an actor that has seen all that happens here. */
const MOST_SAID = 20_000

const chorus = commandLine()
let port: number // of nats-server's monitoring
let fleet: Fleet
let client: Client
let host: Started
let supervisors: ReadonlyArray<Started>
let tokens: ReadonlyArray<number>
let before: Rest

const join = async () => {
  const started = chorus.start(["host", "--nats", fleet.url, "--keys", fleet.keys, "--name", "a", "--cores", "8"])
  await started.says(/has joined/)
  return started
}
const supervise = async () => {
  const started = chorus.start(["supervisor", "--nats", fleet.url, "--keys", fleet.keys])
  await started.says(/supervisor serves/)
  return started
}

beforeAll(async () => {
  port = await freePort()
  fleet = await Fleet.start({ hosts: [], supervisors: 0, args: ["--http_port", `${port}`] })
  ;[host, ...supervisors] = await Promise.all([join(), supervise(), supervise()])
  await fleet.deploy(storedOf({ name: "kept" }, { replicas: { min: 1, max: 1, sessions: 8 } }))
  await fleet.until("kept", ({ replicas }) => replicas[0]?.state === "ready")
  client = await fleet.client("kept")
  for (let i = 0; i < 4; i++) tokens = await generated() // both supervisors have had some
  before = await settled()
})
afterAll(async () => {
  await fleet[Symbol.asyncDispose]()
  chorus.close()
})

const generated = async (): Promise<ReadonlyArray<number>> => {
  const { error, tokens } = await (await client.generate(REQUEST)).ending()
  expect(error).toBe("")
  return tokens
}

interface Rest {
  readonly subscriptions: Readonly<Record<string, number>> // of each shape of subjects
  readonly streams: ReadonlyArray<string> // with consumers, and keys where it is a bucket
  readonly services: ReadonlyArray<string>
}

const monitored = async (path: string): Promise<unknown> => (await fetch(`http://127.0.0.1:${port}${path}`)).json()

const rest = async (): Promise<Rest> => {
  const { subscriptions_list: subscriptions } = (await monitored("/subsz?subs=1&limit=8192")) as {
    readonly subscriptions_list: ReadonlyArray<{ readonly account: string; readonly subject: string }>
  }
  const { account_details: accounts } = (await monitored("/jsz?accounts=1&streams=1")) as {
    readonly account_details: ReadonlyArray<{ readonly stream_detail: ReadonlyArray<Stream> }>
  }
  const services: Array<string> = []
  for await (const message of await client.connection.requestMany("$SRV.INFO", "", { maxWait: 1_000 })) {
    const { name, description }: { readonly name: string; readonly description: string } = message.json()
    services.push(`${name}: ${description}`)
  }
  return {
    subscriptions: counted(
      subscriptions.filter(({ account }) => account !== "$SYS").map(({ subject }) => shapeOf(subject)),
    ),
    streams: accounts.flatMap(({ stream_detail }) => stream_detail.map(lineOf)).sort(),
    services: services.sort(),
  }
}

/** When nothing is read any more, and all is the same twice, with some time between. */
const settled = async (): Promise<Rest> => {
  for (let last = await rest(); ; ) {
    const next = await rest()
    if (isDeepStrictEqual(last, next) && next.streams.includes("CHORUS_TOKENS: 0 consumers")) return next
    last = next
  }
}

const counted = (all: ReadonlyArray<string>): Readonly<Record<string, number>> => {
  const counts: Record<string, number> = {}
  for (const one of [...all].sort()) counts[one] = (counts[one] ?? 0) + 1
  return counts
}

interface Stream {
  readonly name: string
  readonly state: { readonly messages: number; readonly consumer_count: number }
}

/** The token log keeps what it holds for its readers, and the executions' bucket markers of those that are over for a minute. */
const lineOf = ({ name, state }: Stream): string => {
  const counts = name.startsWith("KV_") && !name.startsWith("KV_chorus_executions")
  return `${name}: ${state.consumer_count} consumers${counts ? `, ${state.messages} keys` : ""}`
}

/** Without the names that each process and each activation has of its own. */
const shapeOf = (subject: string): string =>
  subject
    .replace(/^_INBOX\..*/, "_INBOX")
    .replaceAll(/[A-Za-z0-9-]{20,}/g, "ID")
    .replace(/\.(group|beat)\.\d+\./, ".$1.EPOCH.")

const recovered = async () => {
  await expect.poll(() => generated().catch(() => []), WAIT).toEqual(tokens)
  await expect.poll(rest, WAIT).toEqual(before)
}

/** Seconds of computing so far. */
const cpuSeconds = (pid: number): number => {
  const [, , , , , , , , , , , user = 0, system = 0] = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /s, "")
    .split(" ")
    .map(Number)
  return (user + system) / 100
}

/** Each process's part of a core while some beats pass. */
const loads = async (pids: ReadonlyArray<number>): Promise<ReadonlyArray<number>> => {
  const [began, at] = [pids.map(cpuSeconds), performance.now()]
  let beats = 0
  for await (const _ of client.connection.subscribe(subjectsOf("kept").beat("supervisor.*"))) if (++beats === 8) break
  const seconds = (performance.now() - at) / 1000
  return pids.map((pid, i) => (cpuSeconds(pid) - (began[i] ?? 0)) / seconds)
}

const pidOf = ({ child }: Started): number => child.pid ?? Number.NaN

const rank = (group: string): number => {
  const beat = fleet.beat("a")?.ranks.find((one) => one.group === group && one.pid > 0)
  return beat?.pid ?? Number.NaN
}

test("a rank that is killed, and one that hangs", async () => {
  kill(rank("base"))
  await recovered()
  process.kill(rank("draft"), "SIGSTOP")
  await recovered()
  for (const load of await loads([pidOf(host), ...supervisors.map(pidOf)])) expect(load).toBeLessThan(MOST_LOAD)
})

test("a host: while there is none the supervisors wait, and do nothing else", async () => {
  kill(pidOf(host))
  await fleet.until("kept", ({ replicas }) => replicas.length === 0)
  for (const load of await loads(supervisors.map(pidOf))) expect(load).toBeLessThan(MOST_LOAD)
  host = await join()
  await recovered()
})

test("a supervisor, the controller too", async () => {
  for (const [i, killed] of supervisors.entries()) {
    kill(pidOf(killed))
    const successor = await supervise()
    supervisors = supervisors.with(i, successor)
    await recovered()
  }
  for (const load of await loads([pidOf(host), ...supervisors.map(pidOf)])) expect(load).toBeLessThan(MOST_LOAD)
})

test("what the actors have said of it all is short, and they end well", async () => {
  const all = [host, ...supervisors]
  for (const { child } of all) child.kill("SIGTERM")
  for (const { ended } of all) {
    const { code, stderr } = await ended
    expect(code).toBe(0)
    expect(stderr.length).toBeLessThan(MOST_SAID)
  }
})
