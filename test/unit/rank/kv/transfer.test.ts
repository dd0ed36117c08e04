// Rows from rank to rank: those of two sessions at once, and answers that are to another question.
import { Effect, Result } from "effect"
import { expect, test } from "vitest"
import type { Compute } from "../../../../src/rank/device/compute.ts"
import { type Transfer, transfer } from "../../../../src/rank/kv/transfer.ts"
import { wishes } from "../../../../src/wire/kv.ts"
import { END, HashEngine, predict } from "../../../simulation/engine.ts"

const MODEL = { layers: 4, salt: 5 }
const PROMPT = Array.from({ length: 40 }, (_, i) => (i * i + 3) % (END - 1))
const SAMPLING = { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 0n }
const SMALL = 256 // so that rows come in parts

interface Station {
  readonly compute: Compute["Service"]
  readonly moving: Transfer
}

/** The same rank of several groups, each of which is an epoch of its own. */
class Stations {
  readonly #stations = new Map<number, Station>()
  readonly #rows = new Map<number, Array<Uint8Array>>() // on the way, by their senders

  get(epoch: number): Station {
    const known = this.#stations.get(epoch)
    if (known !== undefined) return known
    const { compute } = new HashEngine(MODEL, () => 0, null)
    const role = {
      compute,
      moving: transfer({
        ...{ epoch, group: "base", rank: 0, shard: "all", compute, wishes: 0 },
        ask: (source, message) => {
          const { moving } = this.get(source.epoch)
          const wish = moving.wished(Result.getOrThrow(wishes.decode(message)))
          if (wish !== null) Effect.runFork(moving.give(wish))
        },
        give: (_, piece) => void this.#of(epoch).push(piece),
        maxPayload: () => SMALL,
      }),
    }
    this.#stations.set(epoch, role)
    return role
  }

  /** Until it is so. */
  async sent(from: number): Promise<void> {
    while (this.#of(from).length === 0) await turn()
  }

  /** Delivers what these groups send until no more is waited for, a message of each after the other. */
  async deliver<A>(to: Station, from: ReadonlyArray<number>, waiting: Promise<A>): Promise<A> {
    let over = false
    const settled = waiting.finally(() => {
      over = true
    })
    while (!over) {
      await turn()
      const queues = from.map((epoch) => this.#of(epoch))
      if (queues.some(({ length }) => length === 0)) continue
      while (queues.some(({ length }) => length > 0)) {
        for (const message of queues.flatMap((queue) => queue.splice(0, 1))) to.moving.delivered(message)
      }
    }
    return settled
  }

  #of(epoch: number): Array<Uint8Array> {
    const known = this.#rows.get(epoch) ?? []
    this.#rows.set(epoch, known)
    return known
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** A session with KV for these tokens. */
const fill = ({ compute }: Station, session: string, tokens: ReadonlyArray<number>) =>
  Effect.runPromise(
    Effect.gen(function* () {
      yield* compute.open(session, SAMPLING)
      yield* compute.once([rowsOf(session, 0, tokens)], [{ op: "embed" }, { op: "layers", from: 0, to: MODEL.layers }])
      yield* compute.commit(
        session,
        Int32Array.from(tokens, (_, i) => i),
      )
    }),
  )

const rowsOf = (session: string, from: number, tokens: ReadonlyArray<number>) => ({
  session,
  tokens: Int32Array.from(tokens),
  parents: Int32Array.from(tokens, (_, i) => from + i - 1),
})

/** What comes after one more token. */
const next = ({ compute }: Station, session: string, at: number, token: number) =>
  Effect.runPromise(
    Effect.map(
      compute.once(
        [rowsOf(session, at, [token])],
        [
          { op: "embed" },
          { op: "layers", from: 0, to: MODEL.layers },
          { op: "head", rows: Int32Array.of(0), want: "tokens", top: 0 },
        ],
      ),
      ({ tokens }) => tokens?.[0],
    ),
  )

const fetch = ({ compute, moving }: Station, session: string, epoch: number, committed: number) =>
  Effect.runPromise(
    Effect.andThen(
      compute.open(session, SAMPLING),
      moving.fetch({ session, from: session, committed, sampling: SAMPLING }, { epoch, group: "base" }),
    ),
  )

test("two sessions come from two groups at once, their parts in between one another", async () => {
  const stations = new Stations()
  const [first, second, target] = [stations.get(1), stations.get(2), stations.get(3)]
  const other = PROMPT.toReversed()
  await fill(first, "s", PROMPT)
  await fill(second, "t", other)
  const fetching = Promise.all([fetch(target, "s", 1, PROMPT.length), fetch(target, "t", 2, other.length)])
  expect(await stations.deliver(target, [1, 2], fetching)).toEqual([true, true])
  expect(await next(target, "s", PROMPT.length, 7)).toBe(predict([...PROMPT, 7], MODEL, SAMPLING).token)
  expect(await next(target, "t", other.length, 7)).toBe(predict([...other, 7], MODEL, SAMPLING).token)
})

test("an answer to an earlier question, for fewer rows, is not taken for the one that is waited for", async () => {
  const stations = new Stations()
  const [source, target] = [stations.get(1), stations.get(2)]
  await fill(source, "s", PROMPT)
  const abandoned = Effect.runFork(
    target.moving.fetch({ session: "s", from: "s", committed: 5, sampling: SAMPLING }, { epoch: 1, group: "base" }),
  )
  await stations.sent(1)
  abandoned.interruptUnsafe()
  expect(await stations.deliver(target, [1], fetch(target, "s", 1, 12))).toBe(true)
  expect(target.compute.committed("s")).toBe(12)
})

test("nor is one to an earlier question that says that there are no such rows", async () => {
  const stations = new Stations()
  const [source, target] = [stations.get(1), stations.get(2)]
  await fill(source, "s", PROMPT.slice(0, 10)) // all in one piece
  const tooMany = { session: "s", from: "s", committed: 11, sampling: SAMPLING }
  const abandoned = Effect.runFork(target.moving.fetch(tooMany, { epoch: 1, group: "base" }))
  await stations.sent(1)
  abandoned.interruptUnsafe()
  expect(await stations.deliver(target, [1], fetch(target, "s", 1, 10))).toBe(true)
})

test("a rank that does not hold what is asked for says so", async () => {
  const stations = new Stations()
  const target = stations.get(2)
  await fill(stations.get(1), "s", PROMPT)
  for (const [session, committed] of [
    ["s", PROMPT.length + 1],
    ["nobody", 3],
  ] as const) {
    expect(await stations.deliver(target, [1], fetch(target, session, 1, committed))).toBe(false)
  }
})
