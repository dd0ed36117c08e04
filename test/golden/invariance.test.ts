// The promise behind `deterministic`: the logits of a row are the same bits however it is computed. The measure is a line of
// tokens decoded one at a time; every other way of coming to the same rows has to give the same.
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import type { Engine, Op, Segment } from "../../native/index.ts"
import { howToGet, isMissing, weights } from "../weights.ts"
import { append, exact, GREEDY, head, keep, line, load, run, type Subject } from "./engines.ts"

// Between them: f32, bf16, q4_1, q5_0, q8_0, q4_K and q6_K.
const SUBJECTS = [
  { name: "demo base in f32", path: "models/demo/base", choices: { widen: true, kvType: "f32" }, skip: false },
  { name: "demo base in bf16", path: "models/demo/base", choices: {}, skip: false },
  { name: `smollm2${howToGet("smollm2")}`, path: weights("smollm2"), choices: {}, skip: isMissing("smollm2") },
  {
    name: `coder-0.5b${howToGet("coder-0.5b")}`,
    path: weights("coder-0.5b"),
    choices: {},
    skip: isMissing("coder-0.5b"),
  },
] as const

const LENGTH = 72 // longer than the 63 rows that the attention takes at once
const TOKENS = Array.from({ length: LENGTH }, (_, i) => (i * i * 31 + 17 * i + 5) % 4000)
const OTHERS = TOKENS.map((token) => (token + 1234) % 4000)

type Rows = ReadonlyArray<Float32Array>

const split = (logits: Float32Array | null, vocab: number): Rows =>
  Array.from({ length: (logits?.length ?? 0) / vocab }, (_, row) =>
    (logits ?? new Float32Array()).slice(row * vocab, (row + 1) * vocab),
  )

const bits = (row: Float32Array | undefined) => Buffer.from(row?.buffer ?? new ArrayBuffer())

/** The places where two lists of rows are not the same bits. */
const unlike = (found: Rows, expected: Rows): ReadonlyArray<number> =>
  Array.from({ length: Math.max(found.length, expected.length) }, (_, i) => i).filter(
    (i) => !bits(found[i]).equals(bits(expected[i])),
  )

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

/** Logits of every row of a batch. */
const rowsOf = async (subject: Subject, segments: ReadonlyArray<Segment>, ops = exact(subject)): Promise<Rows> => {
  const count = segments.reduce((sum, { tokens }) => sum + tokens.length, 0)
  const { logits } = await run(subject.engine, segments, [...ops, head(range(0, count))])
  return split(logits, subject.vocab)
}

/** Commits tokens in chunks; the logits of all of them. */
const chunked = async (subject: Subject, session: string, tokens: ReadonlyArray<number>, size: number) => {
  const found: Array<Float32Array> = []
  for (let at = 0; at < tokens.length; at += size) {
    const chunk = tokens.slice(at, at + size)
    found.push(...(await rowsOf(subject, [line(subject.engine, session, chunk)])))
    await keep(subject.engine, session, chunk.length)
  }
  return found
}

for (const { name, path, choices, skip } of SUBJECTS) {
  describe.skipIf(skip)(name, () => {
    let subject: Subject
    let engine: Engine
    let alone: Rows

    const session = async <A>(use: () => Promise<A>, name = "s"): Promise<A> => {
      engine.open(name, GREEDY)
      try {
        return await use()
      } finally {
        engine.close(name)
      }
    }

    beforeAll(async () => {
      subject = await load(path, choices)
      engine = subject.engine
      alone = await session(() => chunked(subject, "s", TOKENS, 1))
    })
    afterAll(() => subject.engine.dispose())

    test("in chunks of any size", async () => {
      for (const size of [2, 5, 16, 63, 64, LENGTH]) {
        const found = await session(() => chunked(subject, "s", TOKENS, size))
        expect({ size, unlike: unlike(found, alone) }).toEqual({ size, unlike: [] })
      }
    })

    test("first in a long batch", async () => {
      const long = [...TOKENS, ...OTHERS, ...TOKENS.slice(0, 40)]
      const found = await session(() => rowsOf(subject, [line(engine, "s", long)]))
      expect(unlike(found.slice(0, LENGTH), alone)).toEqual([])
    })

    test("behind and before another session's rows", async () => {
      const found = await session(async () => {
        await append(subject, "s", TOKENS.slice(0, 50))
        return session(async () => {
          await append(subject, "o", OTHERS.slice(0, 9))
          const [rows, others] = [line(engine, "s", TOKENS.slice(50, 53)), line(engine, "o", OTHERS.slice(9, 14))]
          const after = await rowsOf(subject, [others, rows])
          engine.truncate("s", 50)
          engine.truncate("o", 9)
          const before = await rowsOf(subject, [rows, others])
          return [...after.slice(5), ...before.slice(0, 3)]
        }, "o")
      })
      expect(unlike(found, [...alone.slice(50, 53), ...alone.slice(50, 53)])).toEqual([])
    })

    test("in a tree, after its path is committed, and after a truncation", async () => {
      await session(async () => {
        await append(subject, "s", TOKENS.slice(0, 40))
        // Five tokens of the line, each beside a wrong sibling that has a child of its own.
        const tokens: Array<number> = []
        const parents: Array<number> = []
        for (const i of range(40, 45)) {
          const [parent, slot] = [40 + tokens.length - 1, 40 + tokens.length]
          tokens.push(OTHERS[i] ?? 0, OTHERS[i + 1] ?? 0, TOKENS[i] ?? 0)
          parents.push(parent, slot, parent)
        }
        const segment = { session: "s", tokens: Int32Array.from(tokens), parents: Int32Array.from(parents) }
        const found = await rowsOf(subject, [segment])
        const path = range(0, 5).map((i) => 3 * i + 2)
        expect(
          unlike(
            path.map((row) => found[row] ?? new Float32Array()),
            alone.slice(40, 45),
          ),
        ).toEqual([])
        await engine.commit(
          "s",
          Int32Array.from(path, (row) => 40 + row),
        )
        expect(unlike(await chunked(subject, "s", TOKENS.slice(45, 50), 2), alone.slice(45, 50))).toEqual([])
        engine.truncate("s", 30)
        expect(unlike(await chunked(subject, "s", TOKENS.slice(30, 36), 3), alone.slice(30, 36))).toEqual([])
      })
    })

    test("over calls that each do a part of a layer, with activations as bytes", async () => {
      const found = await session(async () => {
        await append(subject, "s", TOKENS.slice(0, 20))
        const pass = engine.begin([line(engine, "s", TOKENS.slice(20, 25))])
        await pass.run([{ op: "embed" }])
        for (const layer of range(0, subject.layers)) {
          const returned = layer % 2 === 0 // or the one that the pass has kept
          const { attended } = await pass.run([{ op: "attend", layers: [layer], returned }])
          expect(attended).toHaveLength(returned ? 1 : 0)
          const sent = returned ? attended : [null]
          const { hiddens } = await pass.run([{ op: "mlps", layers: [layer], attended: sent }, { op: "emit" }])
          await pass.run([{ op: "receive", hidden: hiddens[0] ?? new Uint8Array() }])
        }
        const { logits } = await pass.run([head(range(0, 5))])
        pass.end()
        return split(logits, subject.vocab)
      })
      expect(unlike(found, alone.slice(20, 25))).toEqual([])
    })

    test("of KV that came from another session", async () => {
      const bytes = await session(async () => {
        await append(subject, "s", TOKENS.slice(0, 40))
        return [await engine.kvExport("s", 0, 33), await engine.kvExport("s", 33, 40)]
      })
      const found = await session(async () => {
        for (const delta of bytes) await engine.kvImport("s", delta)
        return chunked(subject, "s", TOKENS.slice(40, 44), 2)
      })
      expect(unlike(found, alone.slice(40, 44))).toEqual([])
    })

    test("in whatever order the head is asked for rows", async () => {
      const asked: ReadonlyArray<ReadonlyArray<number>> = [[3, 1, 0, 2], [0, 2, 3, 1], [2], [1, 1]]
      for (const rows of asked) {
        const found = await session(async () => {
          const ops: ReadonlyArray<Op> = [...exact(subject), head(rows)]
          return split((await run(engine, [line(engine, "s", TOKENS.slice(0, 4))], ops)).logits, subject.vocab)
        })
        expect(
          unlike(
            found,
            rows.map((row) => alone[row] ?? new Float32Array()),
          ),
        ).toEqual([])
      }
    })

    test("on two threads", async () => {
      const twin = await load(path, { ...choices, threads: 2 })
      twin.engine.open("s", GREEDY)
      const found = [
        ...(await chunked(twin, "s", TOKENS.slice(0, 10), 10)),
        ...(await chunked(twin, "s", TOKENS.slice(10, 14), 1)),
      ]
      twin.engine.dispose()
      expect(unlike(found, alone.slice(0, 14))).toEqual([])
    })
  })
}

test("far into a long session", async () => {
  const subject = await load("models/demo/base")
  const { engine } = subject
  const tokens = Array.from({ length: 600 }, (_, i) => (i * 97 + 11) % 4000)
  engine.open("s", GREEDY)
  for (let at = 0; at < 590; at += 59) await append(subject, "s", tokens.slice(at, at + 59))
  const one = await chunked(subject, "s", tokens.slice(590), 1)
  engine.truncate("s", 0)
  await append(subject, "s", tokens.slice(0, engine.maxRows)) // the longest pass there is
  await append(subject, "s", tokens.slice(engine.maxRows, 590))
  const many = await rowsOf(subject, [line(engine, "s", tokens.slice(590))])
  expect(unlike(many, one)).toEqual([])
  engine.dispose()
})
