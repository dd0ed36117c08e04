// What begins, ends: aborted stretches, passes that have ended, engines that are disposed of, and a process that leaves in
// the middle of a pass. Nothing of it may harm the process, nor a session that has nothing to do with it.
import { spawnSync } from "node:child_process"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import type { Engine, Op } from "../../../native/index.ts"
import { all, argmax, chain, expectSound, extend, head, load, model, partialShard, prompt } from "./shards.ts"

const rows = 256
const long = Int32Array.from({ length: rows }, (_, i) => 100 + i)
const { layers, width } = model.shape
/** Long enough to be met while it computes: the whole model many times over. */
const endless: ReadonlyArray<Op> = [{ op: "embed" }, ...Array<Op>(100).fill(all)]
const begin = (engine: Engine, session: string, tokens: Int32Array = long) =>
  engine.begin([{ session, tokens, parents: chain(engine.used(session), tokens.length) }])
const rejection = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => expect.unreachable("resolved"),
    (error: unknown) => error,
  )
const aborted = expect.objectContaining({ code: "ABORTED" })
const invalid = (message: string) => expect.objectContaining({ name: "TypeError", code: "INVALID", message })

let engine: Engine
beforeAll(async () => {
  engine = await load()
})
afterAll(async () => {
  expect(engine.sessions()).toEqual([])
  await expectSound(engine)
  engine.dispose()
})

const withSession = (name: string, body: (session: string) => Promise<void>) =>
  test(name, async () => {
    engine.open(name, argmax)
    await body(name)
    engine.close(name)
  })

describe("abort", () => {
  withSession("rejects what computes and what waits, and the session goes on after truncate", async (session) => {
    const before = await extend(engine, session, prompt)
    const committed = engine.committed(session)
    const pass = begin(engine, session)
    const runs = [pass.run(endless), pass.run([{ op: "embed" }, all]), pass.run([{ op: "emit" }])].map(rejection)
    engine.abort()
    expect(await Promise.all(runs)).toEqual([aborted, aborted, aborted])
    pass.end()
    expect([engine.committed(session), engine.used(session)]).toEqual([committed, committed + rows])
    engine.truncate(session, 0)
    expect((await extend(engine, session, prompt)).tokens).toEqual(before.tokens)
  })

  withSession("in the middle of a stretch, twice, with another stretch between", async (session) => {
    const pass = begin(engine, session)
    const first = rejection(pass.run(endless))
    engine.abort()
    const second = rejection(pass.run(endless))
    engine.abort()
    expect(await Promise.all([first, second])).toEqual([aborted, aborted])
    expect((await pass.run([{ op: "embed" }, all, head(0)])).tokens?.length).toBe(1)
    pass.end()
  })

  withSession("is over for what is asked for afterwards", async (session) => {
    const pass = begin(engine, session)
    const run = rejection(pass.run(endless))
    engine.abort()
    const next = pass.run([{ op: "embed" }, head(0)])
    expect(await run).toEqual(aborted)
    expect((await next).tokens?.length).toBe(1)
    engine.abort()
    expect((await pass.run([{ op: "emit" }])).hiddens.length).toBe(1)
    pass.end()
  })

  withSession("leaves no half of a hidden state to go on from", async (session) => {
    const pass = begin(engine, session)
    // Whether the stretch had begun when it was aborted cannot be known, so: until it had.
    for (let begun = false; !begun; ) {
      const embedded = pass.run([{ op: "embed" }])
      const run = rejection(pass.run(endless))
      await embedded
      engine.abort()
      expect(await run).toEqual(aborted)
      const [next] = await Promise.allSettled([pass.run([{ op: "emit" }])])
      begun = next.status === "rejected"
      if (begun) expect(next).toMatchObject({ reason: invalid("ops[0]: expected an embed or a receive before it") })
    }
    pass.end()
  })
})

describe("a pass", () => {
  withSession("that has ended runs nothing, however often it ends; what it was running settles", async (session) => {
    const pass = begin(engine, session, prompt)
    const running = pass.run([{ op: "embed" }, all, head(9)])
    pass.end()
    pass.end()
    expect(() => pass.run([{ op: "embed" }])).toThrow("this pass has ended")
    expect(() => engine.truncate(session, 0)).toThrow(`session: "${session}" is in use`)
    expect(() => engine.close(session)).toThrow("is in use")
    expect((await running).tokens).toEqual(Int32Array.of(128))
    engine.truncate(session, 0)
  })

  withSession("runs what is asked for at once one after the other", async (session) => {
    const pass = begin(engine, session, prompt)
    const halves: ReadonlyArray<Op> = [
      { op: "layers", from: 0, to: 5 },
      { op: "layers", from: 5, to: layers },
    ]
    const runs = [[{ op: "embed" } as const], ...halves.map((half) => [half]), [head(9)]].map((ops) => pass.run(ops))
    expect((await Promise.all(runs)).at(-1)?.tokens).toEqual(Int32Array.of(128))
    pass.end()
  })

  withSession("goes on only from what has been computed", async (session) => {
    const pass = begin(engine, session, prompt)
    const hidden = new Uint8Array(prompt.length * width * 4)
    const wrong = async (ops: ReadonlyArray<Op>, message: string) =>
      expect(await rejection(pass.run(ops))).toEqual(invalid(message))
    for (const op of [all, head(0), { op: "emit" }, { op: "attend", layers: [1] }] as const)
      await wrong([op], "ops[0]: expected an embed or a receive before it")
    await wrong(
      [{ op: "embed" }, { op: "mlps", layers: [1], attended: [null] }],
      "ops[1].attended[0]: expected bytes: this shard's attend kept nothing for layer 1",
    )
    await wrong(
      [{ op: "embed" }, { op: "mlps", layers: [1], attended: [hidden], whole: true }],
      "ops[1].whole: expected an attend before it",
    )
    await pass.run([{ op: "embed" }, { op: "attend", layers: [1] }])
    await pass.run([{ op: "mlps", layers: [1], attended: [null], whole: true }])
    pass.end()
  })

  withSession("keeps its session to itself, and lets it go when a promise settles", async (session) => {
    engine.open("other", argmax)
    const pass = begin(engine, session, prompt)
    const calls = [
      () => begin(engine, session),
      () => engine.commit(session, Int32Array.of()),
      () => engine.truncate(session, 0),
      () => engine.kvExport(session, 0, 0),
      () => engine.kvImport(session, new Uint8Array(8)),
      () => engine.close(session),
    ]
    for (const call of calls) expect(call).toThrow(/is in use by|that no pass or promise uses/)
    begin(engine, "other", prompt).end()
    await pass.run([{ op: "embed" }, all])
    pass.end()
    await engine.commit(
      session,
      prompt.map((_, i) => i),
    )
    const end = prompt.length
    const fork = engine.begin([{ session, tokens: Int32Array.of(1, 2), parents: Int32Array.of(end - 1, end - 1) }])
    await fork.run([{ op: "embed" }, all])
    fork.end()
    const commit = engine.commit(session, Int32Array.of(end + 1)) // has to be moved
    for (const call of calls) expect(call).toThrow(/is in use by|that no pass or promise uses/)
    await commit
    const exports = engine.kvExport(session, 0, prompt.length)
    expect(() => engine.truncate(session, 0)).toThrow("is in use")
    engine.truncate("other", 0)
    const imported = engine.kvImport("other", await exports)
    expect(() => begin(engine, "other")).toThrow("that no pass or promise uses")
    await imported
    expect(engine.committed("other")).toBe(prompt.length)
    engine.close("other")
  })
})

describe("code of the caller's that runs while arguments are read", () => {
  withSession("may end the pass", async (session) => {
    const pass = begin(engine, session, prompt)
    const ops = {
      get op() {
        pass.end()
        return "embed" as const
      },
    }
    expect(() => pass.run([ops])).toThrow("this pass has ended")
  })

  test("may close the session or open it", () => {
    engine.open("gone", argmax)
    const segment = {
      session: "gone",
      tokens: prompt,
      get parents() {
        engine.close("gone")
        return chain(0, prompt.length)
      },
    }
    expect(() => engine.begin([segment])).toThrow('segments[0].session: expected an open session; got "gone"')
    const sampling = {
      ...argmax,
      get topK() {
        if (!engine.sessions().includes("twice")) engine.open("twice", argmax)
        return 0
      },
    }
    expect(() => engine.open("twice", sampling)).toThrow('session: "twice" is open already')
    engine.close("twice")
  })

  test("may dispose of the engine", async () => {
    const disposing = (doomed: Engine) => ({
      ...argmax,
      get seed() {
        doomed.dispose()
        return 0n
      },
    })
    const one = await load()
    expect(() => one.open("s", disposing(one))).toThrow("the engine was disposed of")
    const other = await load()
    other.open("s", argmax)
    const pass = begin(other, "s", prompt)
    const ops = {
      op: "attend" as const,
      get layers() {
        other.dispose()
        return [1]
      },
    }
    expect(() => pass.run([{ op: "embed" }, ops])).toThrow("the engine was disposed of")
  })

  withSession("may throw, and its error is what the caller sees", async (session) => {
    const mine = new RangeError("mine")
    const segment = {
      session,
      parents: chain(0, 1),
      get tokens(): Int32Array {
        throw mine
      },
    }
    expect(() => engine.begin([segment])).toThrow(mine)
    expect(engine.used(session)).toBe(0)
  })
})

describe("dispose", () => {
  test("during a run rejects it; everything afterwards throws", async () => {
    const doomed = await load({ shard: partialShard })
    doomed.open("s", argmax)
    doomed.open("t", argmax)
    const pass = begin(doomed, "s")
    const hidden = new Uint8Array(rows * width * 4)
    const much = Array<Op>(200).fill({ op: "layers", from: 3, to: 7 })
    const runs = [1, 2, 3].map(() => rejection(pass.run([{ op: "receive", hidden }, ...much])))
    const exported = doomed.kvExport("t", 0, 0)
    doomed.dispose()
    doomed.dispose()
    expect(await Promise.all(runs)).toEqual([aborted, aborted, aborted])
    expect((await exported).length).toBe(8)
    const calls = [
      () => pass.run([{ op: "emit" }]),
      () => doomed.open("u", argmax),
      () => doomed.close("s"),
      () => doomed.sessions(),
      () => doomed.used("s"),
      () => doomed.committed("s"),
      () => doomed.begin([]),
      () => doomed.commit("s", new Int32Array(0)),
      () => doomed.truncate("s", 0),
      () => doomed.kvExport("s", 0, 0),
      () => doomed.kvImport("s", new Uint8Array(8)),
      () => doomed.bytesOfKv(),
      () => doomed.abort(),
      () => doomed.narrow(partialShard),
    ]
    for (const call of calls) expect(call).toThrow("the engine was disposed of")
    pass.end()
  })
})

describe("a process", () => {
  /** Runs a script beside this file; its exit code, or the signal that ended it. */
  const outcome = (script: string, ...flags: ReadonlyArray<string>) => {
    const program = `import { load, model, argmax, chain, all, prompt } from ${JSON.stringify(`${import.meta.dirname}/shards.ts`)}
      const engine = await load()
      engine.open("s", argmax)
      const tokens = Int32Array.from({ length: 256 }, (_, i) => i)
      const begin = () => engine.begin([{ session: "s", tokens, parents: chain(0, 256) }])
      const endless = [{ op: "embed" }, ...Array(100).fill(all)]
      ${script}`
    const args = [...flags, "--input-type=module-typescript", "-e", program]
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" })
    return { end: signal ?? status, stdout, stderr: status === 0 ? "" : stderr }
  }
  const fine = (stdout: string) => ({ end: 0, stdout, stderr: "" })

  test("may leave in the middle of a stretch", () => {
    expect(outcome("begin().run(endless); process.exit(0)")).toEqual(fine(""))
    expect(outcome("begin().run(endless); setImmediate(() => process.exit(0))")).toEqual(fine(""))
    expect(outcome("load(); load(); process.exit(0)")).toEqual(fine(""))
  })

  test("ends by itself once nothing is computing, with engines that were never disposed of", () => {
    expect(outcome("await begin().run([{ op: 'embed' }]); console.log('done')")).toEqual(fine("done\n"))
  })

  test("may forget engines and passes, and sessions are free again", () => {
    const script = `
      let pass = begin()
      await pass.run([{ op: "embed" }])
      pass = null
      for (let i = 0; i < 20; i++) (await load()).open("t", argmax)
      for (let i = 0; i < 10; i++) { gc(); await new Promise(setImmediate) }
      engine.truncate("s", 0)
      begin().end()
      console.log("free")`
    expect(outcome(script, "--expose-gc")).toEqual(fine("free\n"))
  })

  test("may end a thread that computes", () => {
    const script = `
      const { Worker } = await import("node:worker_threads")
      const body = \`import("${import.meta.dirname}/shards.ts").then(async ({ load, argmax, chain, all }) => {
        const engine = await load()
        engine.open("s", argmax)
        const tokens = Int32Array.from({ length: 256 }, (_, i) => i)
        engine.begin([{ session: "s", tokens, parents: chain(0, 256) }]).run([{ op: "embed" }, ...Array(100).fill(all)])
        process.getBuiltinModule("node:worker_threads").parentPort.postMessage("computing")
      })\`
      const worker = new Worker(body, { eval: true })
      await new Promise((resolve) => worker.once("message", resolve))
      await worker.terminate()
      await begin().run([{ op: "embed" }])
      console.log("alive")`
    expect(outcome(script)).toEqual(fine("alive\n"))
  })
})
