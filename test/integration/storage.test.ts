// Storage that refuses: twenty sessions through each fault of the server that stores them. Each ends with the tokens that it
// would have had, or with an error that names the storage; none hangs, the supervisor says what refused, and when the fault is
// over it goes on by itself.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { jetstream, jetstreamManager, StorageType } from "@nats-io/jetstream"
import type { NatsConnection } from "@nats-io/transport-node"
import { Effect, Exit, Scope } from "effect"
import { afterAll, beforeAll, expect, test, vi } from "vitest"
import { keyIn } from "../../src/bus/access.ts"
import { dial } from "../../src/bus/dial.ts"
import { addOverseer, CONFIG, makeKeys } from "../../src/natsServer/keyFolder.ts"
import { type RunningServer, start } from "../../src/natsServer/natsServer.ts"
import { TOKEN_STREAM } from "../../src/wire/subjects.ts"
import { DEMO } from "./cluster.ts"
import { commandLine, type Started } from "./commandLine.ts"
import { type Gateway, startGateway } from "./gateways.ts"
import { PROMPT } from "./requests.ts"

const BUCKETS = ["deployments", "replicas", "leases", "executions", "executions_results"].map(
  (name) => `KV_chorus_${name}`,
)
const SESSIONS = 20
const REQUEST = { model: "demo", prompt: PROMPT, max_tokens: 300, temperature: 0 }
const NAMES_IT = new RegExp(`${TOKEN_STREAM}|KV_chorus_\\w+|chorus_executions has lost it`)

const chorus = commandLine()
const folder = mkdtempSync(join(tmpdir(), "chorus-test-storage-"))
const keys = join(folder, "keys")
const scopes: Array<Scope.Closeable> = []
let server: RunningServer
let overseer: NatsConnection
let gateway: Gateway
let supervisor: Started
let deploy: () => ReturnType<typeof chorus.run>
let whole: string

/** nats.conf as it stands, but for a store that is small enough to be filled, and what a fault changes. */
const configure = (change: (text: string) => string = (text) => text): void => {
  const text = readFileSync(join(keys, `${CONFIG}.whole`), "utf8").replace(
    "jetstream {",
    "jetstream {\n  max_file_store: 16MB",
  )
  writeFileSync(join(keys, CONFIG), change(text))
}

const startServer = async (port?: number): Promise<void> => {
  const scope = Scope.makeUnsafe()
  const options = {
    folder: join(folder, "server"),
    config: join(keys, CONFIG),
    ...(port === undefined ? {} : { port }),
  }
  server = await Effect.runPromise(Scope.provide(start(options), scope))
  scopes.push(scope)
}

const stopServer = async (): Promise<number> => {
  const scope = scopes.pop()
  if (scope !== undefined) await Effect.runPromise(Scope.close(scope, Exit.void))
  return Number(new URL(server.url).port)
}

beforeAll(async () => {
  await Effect.runPromise(makeKeys({ folder: keys, deployments: [], clients: [], servers: [] }))
  addOverseer(keys)
  writeFileSync(join(keys, `${CONFIG}.whole`), readFileSync(join(keys, CONFIG)))
  configure()
  await startServer()
  const at = ["--nats", server.url, "--keys", keys]
  supervisor = chorus.start(["supervisor", ...at])
  const host = chorus.start(["host", ...at, "--name", "a", "--cores", "4"])
  await Promise.all([supervisor.says(/serves/), host.says(/has joined/)])
  const file = join(folder, "demo.json")
  const group = (model: string, ranks: number) => ({ model, ranks, threads: 1, device: "CPU" })
  const models = { base: group(DEMO.base, 1), draft: group(DEMO.draft, 2) }
  const replicas = { min: 1, max: 1, sessions: 64 }
  writeFileSync(file, JSON.stringify({ name: "demo", ...models, context: 1024, kvTokens: 24_000, replicas }))
  deploy = () => chorus.run(["deploy", file, ...at])
  expect(await deploy()).toMatchObject({ code: 0 })
  overseer = await dial({
    ...{
      url: server.url,
      access: keyIn(join(keys, "overseer"), "client"),
      maxReconnectAttempts: -1,
      reconnectTimeWait: 50,
    },
  })
  gateway = await startGateway({ url: server.url, keys })
  await vi.waitFor(async () => expect(await ready()).toMatchObject({ status: 200 }), { timeout: 60_000, interval: 100 })
  whole = (await session().ended).text
  expect(whole.length).toBeGreaterThan(300)
}, 120_000)

afterAll(async () => {
  chorus.close()
  await gateway?.[Symbol.asyncDispose]()
  await overseer?.close()
  await stopServer()
  rmSync(folder, { recursive: true, force: true })
})

const ready = async () => {
  const answer = await fetch(`${gateway.url}/readyz`)
  return { status: answer.status, body: await answer.text() }
}

interface Outcome {
  readonly text: string
  readonly error: string | null
  readonly status: number
}

/** A streamed completion: when it has its first token, and what came of it. */
const session = (more: object = {}) => {
  let first = (): void => {}
  const begun = new Promise<void>((resolve) => {
    first = resolve
  })
  const read = async (): Promise<Outcome> => {
    const headers = { "content-type": "application/json" }
    const body = JSON.stringify({ ...REQUEST, stream: true, ...more })
    const answer = await fetch(`${gateway.url}/v1/completions`, { method: "POST", headers, body })
    if (!answer.ok || answer.body === null) return { text: "", error: await answer.text(), status: answer.status }
    let [text, rest, error]: [string, string, string | null] = ["", "", null]
    for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) {
      const lines = `${rest}${piece}`.split("\n")
      rest = lines.pop() ?? ""
      // A silence is filled with blanks in front of the next event's JSON.
      const events = lines.flatMap((line) => /^data:\s*(\{.*)/.exec(line)?.[1] ?? [])
      for (const data of events.map((event) => JSON.parse(event))) {
        if (data.error !== undefined) error = data.error.message
        else text += data.choices[0]?.text ?? ""
        first()
      }
    }
    return { text, error, status: answer.status }
  }
  return { begun, ended: read().finally(() => first()) }
}

/** Twenty at a time, and what becomes of them when something happens to their storage while they run. */
const through = async (fault: () => Promise<unknown>): Promise<ReadonlyArray<Outcome>> => {
  const all = Array.from({ length: SESSIONS }, () => session())
  await Promise.all(all.slice(0, SESSIONS / 2).map(({ begun }) => begun))
  await fault()
  return Promise.all(all.map(({ ended }) => ended))
}

/** A request while nats-server itself is away has no session yet, and is told so. */
const NOT_BEGUN = /no connection to NATS|is not served at the moment/

const expectRightOrNamed = (outcomes: ReadonlyArray<Outcome>): void => {
  for (const { text, error, status } of outcomes) {
    if (error === null) expect(text).toBe(whole)
    else if (status !== 503 || !NOT_BEGUN.test(error)) expect(error).toMatch(NAMES_IT)
  }
  console.log(`${outcomes.filter(({ error }) => error === null).length} of ${outcomes.length} came to their end`)
}

/** The fault is over: the gateway says so, and a request is answered again. */
const expectWell = async (): Promise<void> => {
  await expect.poll(ready, { timeout: 60_000 }).toMatchObject({ status: 200 })
  expect(await session().ended).toEqual({ text: whole, error: null, status: 200 })
}

const expectRefusing = async (reason: RegExp): Promise<void> => {
  await expect.poll(ready, { timeout: 20_000 }).toMatchObject({ status: 503, body: expect.stringMatching(reason) })
  const page = async () => (await fetch(`${gateway.url}/metrics`)).text()
  await expect.poll(page).toMatch(/chorus_supervisor_storage_ready\{[^}]*deployment="demo"[^}]*\} 0/)
  const { status, error } = await session().ended
  expect(error).toMatch(NAMES_IT)
  expect(error).toMatch(reason)
  expect(status).toBe(503)
  await supervisor.says(reason)
}

const deleteStreams = async (names: ReadonlyArray<string>): Promise<void> => {
  const { streams } = await jetstreamManager(overseer)
  for (const name of names) await streams.delete(name)
}

const streamNames = async (): Promise<ReadonlyArray<string>> => {
  const { streams } = await jetstreamManager(overseer)
  return (await streams.list().next()).map(({ config }) => config.name).sort()
}

test("the stream of tokens is deleted", { timeout: 120_000 }, async () => {
  expectRightOrNamed(await through(() => deleteStreams([TOKEN_STREAM])))
  await supervisor.says(/the stream CHORUS_TOKENS is gone/)
  await expectWell()
})

test("the buckets are deleted, and what they held of deployments and replicas still counts", {
  timeout: 120_000,
}, async () => {
  const before = await chorus.run(["ps", "--nats", server.url, "--keys", keys, "--json"])
  expectRightOrNamed(await through(() => deleteStreams(BUCKETS)))
  await expect.poll(streamNames, { timeout: 20_000 }).toEqual(expect.arrayContaining(BUCKETS))
  await expectWell()
  expect(before.code).toBe(0)
  expect(await deploy()).toMatchObject({ code: 0 }) // supervisors remember it, and may not write it
})

test("the store is full", { timeout: 180_000 }, async () => {
  const { streams } = await jetstreamManager(overseer)
  const fill = async (): Promise<void> => {
    await streams.add({ name: "FILL", subjects: ["fill"], storage: StorageType.File })
    for (const bytes of [500_000, 10_000, 100]) {
      for (;;) {
        const taken = await jetstream(overseer)
          .publish("fill", new Uint8Array(bytes))
          .catch((error: Error) => error.message)
        if (taken === "insufficient resources") break
      }
    }
  }
  expectRightOrNamed(await through(fill))
  await expectRefusing(/insufficient resources: it is full/)
  await streams.delete("FILL")
  await expectWell()
})

test("a message may have 4 KiB", { timeout: 120_000 }, async () => {
  const restart = async (change?: (text: string) => string): Promise<void> => {
    configure(change)
    await startServer(await stopServer())
    const before = supervisor
    supervisor = chorus.start(["supervisor", "--nats", server.url, "--keys", keys])
    await supervisor.says(/serves/)
    before.child.kill("SIGTERM")
    await before.ended
    await expect.poll(ready, { timeout: 60_000 }).toMatchObject({ status: 200 })
  }
  expectRightOrNamed(await through(() => restart((text) => text.replace("max_payload: 8MB", "max_payload: 4KB"))))
  const long = { prompt: Array.from({ length: 900 }, () => 1234), max_tokens: 8 }
  const { error, status } = await session(long).ended
  expect(error).toMatch(NAMES_IT)
  expect(error).toMatch(/max_payload/)
  expect(status).toBe(413)
  await expectWell() // what is short enough
  await restart()
  expect(await session(long).ended).toMatchObject({ error: null })
})

test("JetStream is emptied", { timeout: 180_000 }, async () => {
  const outcomes = await through(async () => {
    const port = await stopServer()
    rmSync(join(folder, "server/.chorus"), { recursive: true })
    await startServer(port)
  })
  expectRightOrNamed(outcomes)
  await expect.poll(streamNames, { timeout: 20_000 }).toEqual(expect.arrayContaining([TOKEN_STREAM, ...BUCKETS]))
  await expectWell()
})

test("JetStream is switched off", { timeout: 180_000 }, async () => {
  const restart = async (change?: (text: string) => string): Promise<void> => {
    configure(change)
    await startServer(await stopServer())
  }
  expectRightOrNamed(await through(() => restart((text) => text.replace(/jetstream \{[^}]*\}/, ""))))
  await expectRefusing(/JetStream is not enabled/)
  await restart()
  await expectWell()
})
