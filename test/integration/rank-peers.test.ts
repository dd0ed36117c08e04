// Exchanges between ranks on a real nats-server: what each rank knows after them, what they cost, and what becomes of
// payloads beyond max_payload, of silent peers, and of a connection that is lost.
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Scope } from "effect"
import { Nats } from "../../src/bus/nats.ts"
import { NO_NODES, type Payload, Peers } from "../../src/group/exchange.ts"
import { start } from "../../src/natsServer/natsServer.ts"
import { hopOf } from "../../src/speculation/indices.ts"
import { HEADER_BYTES } from "../../src/wire/activation.ts"
import { PART_HEADER_BYTES } from "../../src/wire/part.ts"

/** Ranks of one group, each on a connection of its own as in real life. */
const ranks = Effect.fnUntraced(function* (url: string, count: number, epochs: ReadonlyArray<number> = []) {
  return yield* Effect.forEach(Array.from({ length: count }).keys(), (rank) =>
    Layer.build(
      Peers.layer({ deployment: "test", group: "draft", rank, epoch: epochs[rank] ?? 1 }).pipe(
        Layer.provideMerge(Nats.layer({ url, name: `rank ${rank}`, echo: false })),
      ),
    ).pipe(
      Effect.flatMap((context) =>
        Effect.provide(
          Effect.gen(function* () {
            const { connection } = yield* Nats
            yield* Effect.promise(() => connection.flush())
            return { peers: yield* Peers, connection }
          }),
          context,
        ),
      ),
    ),
  )
})

const payload = (fill: number, blocks: number, width = 4): Payload => ({
  ...{ tokens: 1, width, nodes: NO_NODES },
  blocks: Array.from({ length: blocks }, (_, i) => new Uint8Array(4 * width).fill(fill + i)),
})
const bytesOf = (blocks: number, width = 4) => HEADER_BYTES + 16 * (width / 4) * blocks

it.live("a hidden state handed from rank to rank carries the cost of its way", () =>
  Effect.scoped(
    Effect.gen(function* () {
      const { url } = yield* start()
      const group = yield* ranks(url, 3)
      const [a, b, c] = group.map(({ peers }) => peers.exchange(1, 0))
      if (!a || !b || !c) throw new Error("three ranks")
      yield* a.send(hopOf(1), 1, payload(7, 1))
      yield* b.receive(hopOf(1), 0)
      yield* b.send(hopOf(2), 2, payload(8, 1))
      const came = yield* c.receive(hopOf(2), 1)
      for (const exchange of [a, b, c]) exchange.advance(2)
      expect([...came.values]).toEqual(Array(16).fill(8))
      expect(c.traffic).toEqual({ hops: 2, messages: 2, bytes: 2 * bytesOf(1) })
    }),
  ),
)

it.live("an all-gather gives everyone the blocks of all, and every rank the same count", () =>
  Effect.scoped(
    Effect.gen(function* () {
      const { url } = yield* start()
      const group = yield* ranks(url, 3)
      const exchanges = group.map(({ peers }) => peers.exchange(1, 0))
      const others = (rank: number) => [0, 1, 2].filter((other) => other !== rank)
      for (const hop of [1, 2]) {
        const all = yield* Effect.forEach(
          exchanges,
          (exchange, rank) => exchange.gather(hopOf(hop), payload(10 * rank, rank + 1), "all", others(rank)),
          { concurrency: "unbounded" },
        )
        expect(all.map((came) => came.map(({ rank, values }) => [rank, values[0]]))).toEqual(
          [0, 1, 2].map((rank) => others(rank).map((other) => [other, 10 * other])),
        )
        for (const { traffic } of exchanges) {
          expect(traffic).toEqual({ hops: 0, messages: 3 * hop, bytes: hop * (bytesOf(1) + bytesOf(2) + bytesOf(3)) })
        }
      }
    }),
  ),
)

it.live("only the leader listens: the others send and go on", () =>
  Effect.scoped(
    Effect.gen(function* () {
      const { url } = yield* start()
      const group = yield* ranks(url, 3)
      const [leader, ...rest] = group.map(({ peers }) => peers.exchange(1, 0))
      if (!leader) throw new Error("a leader")
      for (const exchange of rest) yield* exchange.gather(hopOf(1), payload(1, 1), 0, [])
      expect((yield* leader.gather(hopOf(1), null, "all", [1, 2])).length).toBe(2)
      expect(leader.traffic).toEqual({ hops: 0, messages: 2, bytes: 2 * bytesOf(1) })
    }),
  ),
)

it.live("what exceeds the server's max_payload is split, put together again, and counted as it was sent", () =>
  Effect.scoped(
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.promise(() => mkdtemp(join(tmpdir(), "chorus-test-"))),
        (folder) => Effect.promise(() => rm(folder, { recursive: true })),
      )
      const config = join(folder, "small.conf")
      yield* Effect.promise(() => writeFile(config, 'listen: "127.0.0.1:4222"\nmax_payload: 1024\n'))
      const { url } = yield* start({ config })
      const group = yield* ranks(url, 2)
      const [a, b] = group.map(({ peers }) => peers.exchange(1, 0))
      if (!a || !b) throw new Error("two ranks")
      const width = 1000 // 4,000 bytes
      yield* a.send(hopOf(1), "all", {
        ...payload(0, 1, width),
        blocks: [Uint8Array.from({ length: 4000 }, (_, i) => i % 251)],
      })
      const came = yield* b.receive(hopOf(1), 0)
      expect(came.values.every((value, i) => value === i % 251)).toBe(true)
      expect(b.traffic).toEqual({ hops: 0, messages: 5, bytes: HEADER_BYTES + 4000 + 5 * PART_HEADER_BYTES })
    }),
  ),
)

it.live("activations of another epoch, and what is no activation, are dropped and do no harm", () =>
  Effect.scoped(
    Effect.gen(function* () {
      const { url } = yield* start()
      const [old, a, b] = yield* ranks(url, 3, [1, 2, 2])
      if (!old || !a || !b) throw new Error("three ranks")
      yield* old.peers.exchange(1, 0).send(hopOf(1), 2, payload(1, 1))
      for (const junk of [new Uint8Array(0), new Uint8Array([1]), new Uint8Array(99), new Uint8Array([1, 0xff, 3])]) {
        a.connection.publish("chorus.v1.test.group.draft.rank.2.act", junk)
      }
      yield* a.peers.exchange(1, 0).send(hopOf(1), 2, payload(2, 1))
      const exchange = b.peers.exchange(1, 0)
      const came = yield* exchange.receive(hopOf(1), 1)
      expect(came.values[0]).toBe(2)
    }),
  ),
)

it.live("a closed exchange, and a lost connection, end the wait at once", () =>
  Effect.scoped(
    Effect.gen(function* () {
      const server = yield* Scope.make()
      const { url } = yield* Scope.provide(start(), server)
      const [a] = yield* ranks(url, 1)
      if (!a) throw new Error("a rank")
      const closed = a.peers.exchange(1, 0)
      const first = yield* Effect.forkScoped(Effect.flip(closed.receive(hopOf(1), 1)))
      yield* Effect.yieldNow
      closed.close()
      expect((yield* Fiber.join(first))._tag).toBe("Superseded")
      const second = yield* Effect.forkScoped(Effect.flip(a.peers.exchange(2, 0).receive(hopOf(1), 1)))
      yield* Effect.yieldNow
      yield* Scope.close(server, Exit.void)
      expect((yield* Fiber.join(second))._tag).toBe("PeerSilent") // the pass has not been taken back
    }),
  ),
)
