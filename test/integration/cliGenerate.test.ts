// The command line at work on the demo pair: real ranks, a real nats-server, and nothing of them left afterwards, however
// a command ends.
import { statSync } from "node:fs"
import { connect } from "@nats-io/transport-node"
import { describe, expect, test } from "vitest"
import { commandLineOfEach, type Ended, interrupt, type Started } from "./commandLine.ts"
import { PROMPT } from "./requests.ts"

const chorus = commandLineOfEach()

const ask = (...args: ReadonlyArray<string>) => ["generate", "--prompt", PROMPT, ...args]
const generate = (...args: ReadonlyArray<string>) => ask("--threads", "1", ...args) // beside other tests
const LONG = generate("--max-tokens", "900", "--tree", "3,2,6") // longer than anyone waits

const answerOf = ({ code, stdout, stderr }: Ended) => {
  expect({ code, stderr: stderr.split("\n").filter((line) => line !== "" && !line.endsWith("...")) }).toEqual({
    code: 0,
    stderr: [],
  })
  expect(stdout.trimEnd().split("\n")).toHaveLength(1)
  return JSON.parse(stdout)
}

const PASS = {
  count: expect.any(Number),
  milliseconds: expect.any(Number),
  computeMilliseconds: expect.any(Number),
  hops: expect.any(Number),
  messages: expect.any(Number),
  bytes: expect.any(Number),
}

describe("generate", () => {
  test("--json prints one object, and speculation changes no token of it", async () => {
    const options = ["--max-tokens", "32", "--json"]
    const speculative = answerOf(await chorus.run(generate("--tree", "4,3,8", ...options)))
    const plain = answerOf(await chorus.run(generate("--no-speculation", ...options)))
    expect(speculative.text).toBe(plain.text)
    expect(speculative.tokens).toEqual(plain.tokens)
    expect(speculative).toMatchObject({ finishReason: "length", tokens: expect.any(Array) })
    expect(speculative.tokens).toHaveLength(32)
    const { stats } = speculative
    expect(stats.passes).toMatchObject({ prefill: PASS, calibrate: PASS, draft: PASS, verify: PASS })
    expect(stats.tokensPerSecond).toBeGreaterThan(0)
    expect(stats.meanAcceptedLength).toBeGreaterThan(0.5) // the draft was distilled from the base
    expect(stats.iterations).toBe(stats.passes.verify.count + (stats.passes.decode?.count ?? 0)) // a last token needs no draft
    expect(stats.passes.draft.messages).toBeGreaterThan(0)
    expect(plain.stats.passes.draft).toBeUndefined()
    expect(plain.stats.passes.decode.count).toBeGreaterThan(0)
  })

  test("writes the text alone into a pipe, from stdin or --prompt; colours and numbers only when asked for", async () => {
    const options = ["--max-tokens", "24", "--tree", "4,3,8"]
    const plain = await chorus.run(generate(...options))
    const { text } = answerOf(await chorus.run(generate(...options, "--json")))
    expect(plain.stdout).toBe(text)
    expect((await chorus.run(["generate", ...options], { input: PROMPT })).stdout).toBe(text)
    const coloured = await chorus.run(generate(...options, "--stats"), { env: { FORCE_COLOR: "1" } })
    expect(coloured.stdout).toContain("\u001b[32m")
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are what is taken away
    expect(coloured.stdout.replaceAll(/\u001b\[\d+m/g, "")).toBe(text)
    expect(coloured.stderr).toMatch(/sampled with temperature 0, seed \d+\n/)
    expect(coloured.stderr).toMatch(/tokens\/s[\s\S]*mean accepted length[\s\S]*calibrate[\s\S]*draft[\s\S]*verify/)
  })

  test("the same seed gives the same sample", async () => {
    const options = ["--max-tokens", "16", "--temperature", "0.8", "--seed", "11", "--json"]
    const one = answerOf(await chorus.run(generate(...options)))
    expect(answerOf(await chorus.run(generate(...options, "--draft-ranks", "1"))).tokens).toEqual(one.tokens)
    expect(one.seed).toBe("11")
  })

  test("a prompt that is too long is refused by its length", async () => {
    const { code, stderr } = await chorus.run(["generate", "--context", "64"], { input: PROMPT.repeat(40) })
    expect(stderr).toMatch(/chorus: the prompt has \d+ tokens .* the context holds 64/)
    expect(code).toBe(1)
  })
})

const firstText = (started: Started) => started.says(/\S/)

describe("nothing is left behind", () => {
  test("after Ctrl-C while it generates, which exits with 130", async () => {
    const running = chorus.start(LONG)
    await firstText(running)
    interrupt(running)
    const { code, stderr } = await running.ended
    expect({ code, stderr: stderr.replaceAll(/.*\.\.\.\n/g, "") }).toEqual({ code: 130, stderr: "" })
  })

  test("after Ctrl-C while it starts", async () => {
    const running = chorus.start(LONG)
    await new Promise<void>((resolve) => running.child.stderr?.once("data", () => resolve())) // the first progress
    interrupt(running)
    expect((await running.ended).code).toBe(130)
  })

  test("when the reader goes away", async () => {
    const running = chorus.start(LONG)
    await firstText(running)
    running.child.stdout?.destroy()
    expect((await running.ended).code).toBe(130)
  })

  test("when it is killed", async () => {
    const running = chorus.start(LONG)
    await firstText(running)
    running.child.kill("SIGKILL")
    await running.ended
    await expect.poll(() => [...chorus.processes(), ...chorus.files()]).toEqual([])
  })
})

const up = async (...args: ReadonlyArray<string>) => {
  const running = chorus.start(["up", "--json", "--port", "0", ...args])
  const [line] = await running.says(/^\{.*\}$/m)
  return { running, ready: JSON.parse(line) }
}

describe("up", () => {
  test("serves generate and ps by name and by URL, and drains with exit code 0 on SIGTERM", async () => {
    const { running, ready } = await up("--threads", "1")
    expect(ready).toEqual({
      nats: expect.stringMatching(/^nats:\/\/127\.0\.0\.1:\d+$/),
      keys: expect.any(String),
      http: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/),
      deployment: "demo",
      pids: {
        gateway: expect.any(Number),
        natsServer: expect.any(Number),
        host: expect.any(Number),
        supervisor: expect.any(Number),
        base: [expect.any(Number)],
        draft: [expect.any(Number), expect.any(Number)],
      },
    })
    expect(statSync(ready.keys).mode & 0o777).toBe(0o700)
    await expect(connect({ servers: ready.nats })).rejects.toThrow(/Authorization Violation/) // another user of the machine
    const options = ["--max-tokens", "8", "--json"]
    const byName = answerOf(await chorus.run(ask("--name", "demo", ...options)))
    const byUrl = answerOf(await chorus.run(ask("--nats", ready.nats, ...options)))
    expect(byName.tokens).toEqual(byUrl.tokens)

    const [server] = JSON.parse((await chorus.run(["ps", "--json"])).stdout)
    expect(server.nats).toBe(ready.nats)
    expect(server.services.map(({ deployment }: { deployment: string }) => deployment)).toContain("demo")
    const shards = server.ranks.map(({ group, rank, state }: Record<string, unknown>) => `${group} ${rank} ${state}`)
    expect(shards).toEqual(["base 0 ready", "draft 0 ready", "draft 1 ready"])
    const page = (await chorus.run(["ps"])).stdout
    expect(page).toMatch(/attention \d/)
    expect(page).toMatch(/CPU/)
    expect(page).toMatch(/samples with/)

    const again = await chorus.run(["up", "--port", "0"])
    expect(again.stderr).toMatch(/demo runs here already, as process \d+/)
    expect(again.code).toBe(1)

    running.child.kill("SIGTERM")
    expect((await running.ended).code).toBe(0)
    expect((await chorus.run(["ps"])).code).toBe(1)
  })

  test("its ranks stop after --idle-timeout, and start again with the next request", async () => {
    const { running, ready } = await up("--name", "idle", "--threads", "1", "--idle-timeout", "1s")
    const state = async () => JSON.parse((await chorus.run(["ls", "--json"])).stdout)[0]
    expect(await state()).toMatchObject({ name: "idle", idleTimeoutMillis: 1000, epoch: 1 })
    await expect.poll(async () => (await state()).state, { timeout: 30_000 }).toBe("cold")
    const { stats } = answerOf(await chorus.run(ask("--name", "idle", "--max-tokens", "4", "--json")))
    expect(stats.coldStart).toMatchObject({ processStartMillis: expect.any(Number) })
    expect((await state()).epoch).toBe(2) // a second activation, which may be over again by now

    const join = ["host", "--nats", ready.nats, "--name", "extra"]
    const host = chorus.start([...join, "--cores", "3", "--memory", "2G"])
    await host.says(/^host extra has joined nats:/)
    expect((await chorus.run(join)).stderr).toMatch(/^chorus: a host extra has joined already.*--name/)
    const [{ hosts }] = JSON.parse((await chorus.run(["ps", "--json"])).stdout)
    expect(hosts).toHaveLength(2)
    expect(hosts).toContainEqual(
      expect.objectContaining({ name: "extra", state: "ready", cores: 3, memoryTotal: 2 ** 31, ranks: 0 }),
    )
    host.child.kill("SIGTERM")
    expect((await host.ended).code).toBe(0)

    expect((await chorus.run(["rm", "nobody", "--nats", ready.nats])).stderr).toMatch(/no deployment nobody.*chorus ls/)
    expect((await chorus.run(["rm", "idle"])).stdout).toBe("idle is removed\n")
    expect((await chorus.run(["ls"])).stdout).toMatch(/no deployments/)
    running.child.kill("SIGTERM")
    expect((await running.ended).code).toBe(0)
  })

  test("ends on Ctrl-C with 130", async () => {
    const { running } = await up("--name", "other", "--threads", "1")
    interrupt(running)
    expect((await running.ended).code).toBe(130)
  })
})

test("demo shows the parts at work and that no token changes", async () => {
  const { code, stdout, stderr } = await chorus.run(["demo"])
  expect(stdout).toMatch(/The same \d+ tokens with fuzzy drafts, with exact drafts, and decoded plainly/)
  expect(stdout).toMatch(/mean accepted length \d/)
  for (const kind of ["calibrate", "draft", "verify"]) expect(stdout).toMatch(new RegExp(`^${kind} .*\\d`, "m"))
  expect({ code, stderr: stderr.replaceAll(/.*\.\.\.\n/g, "") }).toEqual({ code: 0, stderr: "" })
})
