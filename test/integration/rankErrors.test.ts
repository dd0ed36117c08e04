// What a rank does with what it cannot run, with what it is told twice or too late, and with the end of its peers, its
// server and its parent: a typed error where an answer is awaited, and the process stays up; or it ends, with the right code.
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer, connect as dial, type Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect } from "effect"
import { Packr } from "msgpackr"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { Nats } from "../../src/bus/nats.ts"
import { join as joinGroup } from "../../src/group/group.ts"
import { type Draft, GREEDY, type PassAnswer, type PassCommand, type SessionDraft } from "../../src/wire/pass.ts"
import { ENTRY, environmentOf, exit, RankGroup, Server } from "./rankGroup.ts"

const MODEL = join(import.meta.dirname, "../../models/demo/draft")
const PROMPT = [362, 800, 35, 3961, 334, 63, 87, 65, 285, 13]
const SHAPE = { depth: 3, width: 2, nodes: 4 }

let server: Server
beforeAll(async () => {
  server = await Server.start()
})
afterAll(() => server[Symbol.asyncDispose]())

const errorOf = (answer: PassAnswer) => (answer._tag === "Refused" ? answer.error : answer)
const inTurn = (count: number) => Array.from({ length: count }, (_, i) => (i * 37) % 4096)

describe("one rank", () => {
  let group: RankGroup
  beforeAll(async () => {
    group = await RankGroup.start(server, { name: "errors", model: MODEL, strategy: "single", ranks: 1, epoch: 5 })
  })
  afterAll(() => group[Symbol.asyncDispose]())

  /** A session with the prompt in its KV, and how commands to it look. */
  const session = async (name: string) => {
    await group.prefill(name, PROMPT.slice(0, -1))
    const of = () => ({ session: name, ...group.next(), committed: PROMPT.length - 1 })
    return {
      prefill: () => ({ _tag: "Prefill", ...of(), tokens: [1, 2], sampling: GREEDY }) as const,
      verify: () => ({ _tag: "Verify", ...of(), acceptedRows: [], tokens: [13], parents: [-1] }) as const,
      decode: () => ({ _tag: "Decode", ...of(), acceptedRows: [], token: 13, steps: 3 }) as const,
      draft: (change: Partial<SessionDraft> = {}): Draft => {
        const sessions = [{ session: name, committed: PROMPT.length - 1, accepted: [13], ...SHAPE, ...change }] as const
        return { _tag: "Draft", ...group.next(), fuzzy: 4, sessions }
      },
      release: () => group.control({ _tag: "Release", session: name }),
    }
  }

  test("names what is wrong with a command, and runs the next one as if nothing had been", async () => {
    const { prefill, verify, decode, draft, release } = await session("wrong")
    const undisturbed = await group.command(verify())
    const invalid = (field: string) => ({ _tag: "InvalidRequest", field })
    const unknown = (actual: number, expected: number) => ({ _tag: "UnknownSession", actual, expected })
    const cases: ReadonlyArray<readonly [PassCommand, object]> = [
      [{ ...decode(), session: "nobody" }, unknown(-1, 9)],
      [{ ...decode(), committed: 10 }, unknown(9, 10)],
      [{ ...decode(), token: 4096 }, invalid("token")],
      [{ ...decode(), steps: 1016 }, invalid("steps")],
      [{ ...verify(), session: "nobody" }, unknown(-1, 9)],
      [{ ...prefill(), session: "nobody" }, unknown(-1, 9)],
      [draft({ session: "nobody" }), unknown(-1, 9)],
      [{ ...verify(), committed: 10 }, unknown(9, 10)],
      [draft({ committed: 10 }), unknown(9, 10)],
      [{ ...prefill(), committed: 12 }, unknown(9, 12)],
      [{ ...verify(), committed: 11, acceptedRows: [0, 4] }, unknown(9, 11)], // the last pass had no row 4
      [
        { ...verify(), epoch: 4 },
        { _tag: "WrongEpoch", expected: 5, actual: 4 },
      ],
      [
        { ...verify(), epoch: 6 },
        { _tag: "WrongEpoch", expected: 5, actual: 6 },
      ],
      [{ ...verify(), parents: [-1, 0] }, invalid("parents")],
      [{ ...verify(), parents: [0] }, invalid("parents[0]")],
      [{ ...verify(), tokens: [] }, invalid("tokens")],
      [{ ...verify(), tokens: [4096] }, invalid("tokens[0]")],
      [{ ...verify(), committed: 1024 }, invalid("tokens")],
      [{ ...verify(), acceptedRows: [1, 0] }, invalid("acceptedRows[1]")],
      [{ ...prefill(), tokens: [1, 2, 5000] }, invalid("tokens[2]")],
      [{ ...prefill(), tokens: inTurn(513) }, invalid("tokens")],
      [draft({ accepted: [] }), invalid("sessions[0].accepted")],
      [draft({ accepted: [2 ** 31] }), invalid("sessions[0].accepted[0]")],
      [draft({ depth: 2000 }), invalid("sessions[0].depth")],
      [draft({ width: 513 }), invalid("sessions[0].width")],
    ]
    for (const [command, error] of cases) expect(errorOf(await group.command(command))).toMatchObject(error)
    const after = await group.command(verify())
    expect(after).toEqual({ ...undisturbed, pass: after.pass, cost: expect.anything() })
    release()
  })

  test("answers what is no command, and names the field where there is one", async () => {
    const { verify, release } = await session("malformed")
    const packr = new Packr({ useRecords: false })
    const whole = packr.pack(verify())
    const malformed = async (message: Uint8Array) => {
      const error = errorOf(await group.send(message))
      return error._tag === "MalformedMessage" ? error.field : error
    }
    expect(await malformed(new Uint8Array(0))).toBe("message")
    expect(await malformed(new Uint8Array([0xc1, 0xff, 0xfe]))).toBe("message")
    expect(await malformed(new Uint8Array(1000).fill(0xdf))).toBe("message")
    for (const length of [1, 7, whole.byteLength >> 1, whole.byteLength - 1]) {
      expect(await malformed(whole.subarray(0, length))).toBe("message")
    }
    expect(await malformed(packr.pack({ ...verify(), more: 1 }))).toBe("more")
    const text = { _tag: "InvalidRequest", field: "tokens[1]", reason: 'is "14", the vocabulary has 4096 tokens' }
    expect(await malformed(packr.pack({ ...verify(), tokens: [13, "14"] }))).toMatchObject(text)
    expect(await malformed(packr.pack({ ...verify(), committed: -1 }))).toBe("committed")
    expect(await malformed(packr.pack({ ...verify(), pass: 1.5 }))).toBe("pass")
    expect(await malformed(packr.pack({ ...verify(), session: "" }))).toBe("session")
    expect(await malformed(packr.pack(null))).toBe("message")
    expect((await group.command(verify()))._tag).toBe("Verified")
    release()
  })

  test("runs a command once however often it comes, and refuses a late one", async () => {
    const { verify, release } = await session("twice")
    const command = verify()
    const both = await Promise.all([group.command(command), group.command(command)])
    expect(both[0]._tag).toBe("Verified")
    expect(both[1]).toEqual(both[0]) // its cost too, which no two runs share
    expect(await group.command(command)).toEqual(both[0])
    const again = await group.command({ ...command, attempt: 1 })
    expect(again).toEqual({ ...both[0], cost: expect.anything() })
    expect(again).not.toEqual(both[0])
    for (const late of [command, { ...command, pass: command.pass - 1 }]) {
      expect(errorOf(await group.command(late))).toMatchObject({ _tag: "InvalidRequest", field: "pass" })
    }
    release()
  })

  test("stops a pass that is aborted, and a released session's KV is free", async () => {
    const empty = await group.beat(({ sessions }) => sessions === 0)
    await group.prefill("aborted", PROMPT)
    expect(await group.beat(() => true)).toMatchObject({ sessions: 1 })
    const command: PassCommand = {
      ...{ _tag: "Prefill", session: "aborted", ...group.next(), committed: PROMPT.length },
      ...{ tokens: inTurn(512), sampling: GREEDY },
    }
    const answer = group.command(command)
    group.control({ _tag: "Abort", session: "aborted" })
    expect(errorOf(await answer)).toMatchObject({ _tag: "Cancelled", session: "aborted" })
    expect((await group.beat(({ sessions }) => sessions === 0)).bytesOfKv).toBe(empty.bytesOfKv)

    const { verify, release } = await session("released")
    expect((await group.beat(() => true)).bytesOfKv).toBeGreaterThan(empty.bytesOfKv)
    release()
    expect((await group.beat(({ sessions }) => sessions === 0)).bytesOfKv).toBe(empty.bytesOfKv)
    expect(errorOf(await group.command(verify()))).toMatchObject({ _tag: "UnknownSession", actual: -1 })
  })

  test("keeps sessions apart that run side by side", async () => {
    const prompts = [PROMPT, PROMPT.slice(3), inTurn(40)]
    const alone = []
    for (const [i, prompt] of prompts.entries()) alone.push(await group.greedy(`alone-${i}`, prompt, 8))
    const together = await Promise.all(prompts.map((prompt, i) => group.greedy(`together-${i}`, prompt, 8)))
    expect(together).toEqual(alone)
    expect(new Set(alone.map(String)).size).toBeGreaterThan(1)
  })
})

describe("a server with a small max_payload", () => {
  const folder = mkdtempSync(join(tmpdir(), "chorus-test-small-"))
  const config = join(folder, "nats.conf")
  let small: Server
  let group: RankGroup
  beforeAll(async () => {
    writeFileSync(config, 'listen: 127.0.0.1:-1\nmax_payload: 4KB\njetstream { store_dir: "store" }\n')
    small = await Server.start({ config, folder })
    group = await RankGroup.start(small, { name: "small", model: MODEL, strategy: "single", ranks: 1 })
  })
  afterAll(async () => {
    await group?.[Symbol.asyncDispose]()
    await small?.[Symbol.asyncDispose]()
    rmSync(folder, { recursive: true, force: true })
  })

  const draftOf = (count: number): Omit<Draft, "epoch" | "pass" | "attempt"> => {
    const sessionOf = (i: number) => ({
      ...{ session: `s${i}`, committed: PROMPT.length - 1, accepted: [13], depth: 4, width: 4, nodes: 16 },
    })
    return {
      ...{ _tag: "Draft", fuzzy: 4 },
      sessions: [sessionOf(0), ...Array.from({ length: count - 1 }, (_, i) => sessionOf(i + 1))],
    }
  }

  test("an answer that it would not carry is an error with both sizes, and not silence", async () => {
    for (let i = 0; i < 24; i++) await group.prefill(`s${i}`, PROMPT.slice(0, -1))
    const reason = /its answer has \d{4,} bytes, max_payload of nats-server is 4096/
    expect(errorOf(await group.command({ ...draftOf(24), ...group.next() }))).toMatchObject({
      ...{ _tag: "PassFailed", group: "base", reason: expect.stringMatching(reason) },
    })
    expect(await group.command({ ...draftOf(1), ...group.next() })).toMatchObject({ _tag: "Drafted" })
  })

  test("so is a command, and the next one is answered", async () => {
    const base = { name: "base", model: MODEL, strategy: "single", ranks: 1, threads: 1, device: "CPU" } as const
    const asked = Effect.gen(function* () {
      const joined = yield* joinGroup({ deployment: "small", group: base, epoch: group.epoch })
      yield* joined.ready
      const error = yield* Effect.flip(joined.draft(draftOf(100)))
      const { answer } = yield* joined.draft(draftOf(1))
      return { error, answer }
    })
    const over = Nats.layer({ url: small.url, name: "test" })
    const { error, answer } = await Effect.runPromise(Effect.scoped(Effect.provide(asked, over)))
    const reason = /its command has \d{4,} bytes, max_payload of nats-server is 4096/
    expect(error).toMatchObject({ _tag: "PassFailed", group: "base", reason: expect.stringMatching(reason) })
    expect(answer.trees).toHaveLength(1)
  })
})

/** A pass of a `layer` group that is under way and waits for rank `peer`, which stands still: its answer, to come. */
const halted = async (group: RankGroup, peer: number, commands: ReadonlyArray<PassCommand>) => {
  const seen = group.connection.subscribe(group.subjects.activation(peer), { max: commands.length })
  await group.connection.flush()
  group.signal("SIGSTOP", [peer])
  const answers = commands.map((command) => group.command(command))
  for await (const _ of seen); // every pass has come as far as the peer
  return answers
}

const verifyOf = (group: RankGroup, session: string): PassCommand => ({
  _tag: "Verify",
  ...{ session, ...group.next(), committed: PROMPT.length - 1 },
  ...{ acceptedRows: [], tokens: [13, 14, 15], parents: [-1, 0, 0] },
})

const reached = async (group: RankGroup, ranks: number) => {
  const missing = new Set(Array.from({ length: ranks }).keys())
  await group.beat(({ rank }) => missing.delete(rank) && missing.size === 0)
}

describe("a group", () => {
  test("survives the death of one rank in the middle of a pass", async () => {
    await using group = await RankGroup.start(server, { name: "killed", model: MODEL, strategy: "layer", ranks: 3 })
    for (const session of ["aborted", "repeated"]) await group.prefill(session, PROMPT.slice(0, -1))
    const [aborted, repeated] = [verifyOf(group, "aborted"), verifyOf(group, "repeated")]
    const answers = await halted(group, 2, [aborted, repeated])
    group.signal("SIGKILL", [2])
    group.control({ _tag: "Abort", session: "aborted" })
    const last = group.command({ ...repeated, attempt: 1 })
    expect((await Promise.all(answers)).map(errorOf)).toMatchObject([
      { _tag: "Cancelled", session: "aborted" },
      { _tag: "Cancelled", session: "repeated" }, // by the next attempt
    ])
    expect(errorOf(await last)).toMatchObject({ _tag: "PeerSilent" })
    expect(errorOf(await group.command(verifyOf(group, "aborted")))).toMatchObject({ _tag: "UnknownSession" })
    await reached(group, 2)
    expect(await group.stop()).toEqual([0, 0, null])
  })

  test("finishes the pass that runs when it is told to stop", async () => {
    await using group = await RankGroup.start(server, { name: "drained", model: MODEL, strategy: "layer", ranks: 2 })
    await group.prefill("s", PROMPT.slice(0, -1))
    const command = verifyOf(group, "s")
    const undisturbed = await group.command(command)
    const [answer] = await halted(group, 1, [{ ...command, attempt: 1 }])
    group.signal("SIGTERM")
    group.signal("SIGCONT", [1])
    expect(await answer).toEqual({ ...undisturbed, cost: expect.anything() })
    expect(await Promise.all(group.processes.map(exit))).toEqual([0, 0])
  })

  test("gives the same answer again after a restart of nats-server in the middle of a pass", async () => {
    const first = await Server.start()
    await using group = await RankGroup.start(first, { name: "restarted", model: MODEL, strategy: "layer", ranks: 2 })
    await group.prefill("s", PROMPT.slice(0, -1))
    const command = verifyOf(group, "s")
    const undisturbed = await group.command(command)
    const [answer] = await halted(group, 1, [{ ...command, attempt: 1 }])
    answer?.catch(() => {}) // lost with the server
    await first[Symbol.asyncDispose]()
    group.signal("SIGCONT", [1])
    await using _ = await Server.start({ port: Number(new URL(first.url).port) })
    await reached(group, 2)
    expect(await group.command({ ...command, attempt: 2 })).toEqual({ ...undisturbed, cost: expect.anything() })
    expect(await group.stop()).toEqual([0, 0])
  })

  test("says so when its ranks' connections break, though the asker has kept its own", async () => {
    await using proxy = await Bridge.start(server)
    const options = { name: "broken", model: MODEL, strategy: "layer", ranks: 2 } as const
    await using group = await RankGroup.start(server, options, proxy.url)
    await group.prefill("s", PROMPT.slice(0, -1))
    const command = verifyOf(group, "s")
    const undisturbed = await group.command(command)
    const [answer] = await halted(group, 1, [{ ...command, attempt: 1 }])
    proxy.cut()
    expect(errorOf((await answer) ?? undisturbed)).toMatchObject({ _tag: "PeerSilent", rank: 0, peer: 1 })
    group.signal("SIGCONT", [1])
    await reached(group, 2)
    expect(await group.command({ ...command, attempt: 2 })).toEqual({ ...undisturbed, cost: expect.anything() })
  })
})

describe("a process", () => {
  test("that cannot load its model says why, and exits with 1", async () => {
    const options = { name: "unloadable", model: "/nowhere/model.gguf", strategy: "single", ranks: 1 } as const
    await using group = await RankGroup.launch(server, options)
    const { reason } = await group.beat(({ state }) => state === "failed")
    expect(reason).toContain("/nowhere/model.gguf")
    expect(await Promise.all(group.processes.map(exit))).toEqual([1])
  })

  test("ends when its parent is killed", async () => {
    const options = { name: "orphan", model: MODEL, strategy: "single", ranks: 1 } as const
    await using listener = await RankGroup.launch(server, { ...options, ranks: 0 })
    const start = `require("node:child_process").spawn(process.execPath, [${JSON.stringify(ENTRY)}], { stdio: ["pipe", "inherit", "inherit"] })`
    const parent = spawn(process.execPath, ["-e", start], {
      stdio: ["ignore", "pipe", "inherit"],
      env: environmentOf(server.url, options, 0),
    })
    await listener.beat(({ state }) => state === "ready")
    const ended = once(parent.stdout.resume(), "close") // the rank holds the other end
    const draining = listener.beat(({ state }) => state === "draining")
    await listener.connection.flush() // it may be said at once
    parent.kill("SIGKILL")
    await draining
    await ended
  })
})

/** A way to the server that can be cut. */
class Bridge implements AsyncDisposable {
  readonly url: string
  readonly #sockets: Set<Socket>
  readonly #close: () => void

  static async start({ url }: Server): Promise<Bridge> {
    const sockets = new Set<Socket>()
    const server = createServer((near) => {
      const far = dial(Number(new URL(url).port), "127.0.0.1")
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        sockets.add(from)
        from
          .on("error", () => {})
          .on("close", () => to.destroy())
          .pipe(to)
      }
    })
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
    const address = server.address()
    if (address === null || typeof address === "string") throw new Error("a port")
    return new Bridge(`nats://127.0.0.1:${address.port}`, sockets, () => server.close())
  }

  private constructor(url: string, sockets: Set<Socket>, close: () => void) {
    this.url = url
    this.#sockets = sockets
    this.#close = close
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
    this.#sockets.clear()
  }

  async [Symbol.asyncDispose]() {
    this.#close()
    this.cut()
  }
}
