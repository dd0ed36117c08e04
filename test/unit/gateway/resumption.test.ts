// The ids of events: what is written is read back, what is none is refused, and a stream that is taken up at any of its
// events goes on with the next one.
import { Effect, Stream } from "effect"
import fc from "fast-check"
import { expect, test } from "vitest"
import { type Chunk, idOf, numbered, placeOf, type StreamPosition } from "../../../src/gateway/resumption.ts"

const count = fc.nat({ max: 2 ** 40 })
const choice = fc.record({ session: fc.stringMatching(/^[A-Za-z0-9_-]{1,64}$/), had: count })
const place: fc.Arbitrary<StreamPosition> = fc.record({
  kind: fc.constantFrom("chatcmpl" as const, "cmpl" as const),
  created: count,
  choices: fc.array(choice, { minLength: 1, maxLength: 4 }),
})

test("an id is read back as it was written, by its own route alone", () => {
  fc.assert(
    fc.property(place, (place) => {
      expect(placeOf(idOf(place), place.kind)).toEqual(place)
      expect(placeOf(idOf(place), place.kind === "cmpl" ? "chatcmpl" : "cmpl")).toBeUndefined()
    }),
  )
})

test.each([
  ...["", "cmpl", "cmpl.", "cmpl.1", "cmpl.1.a", "cmpl.1.a:", "cmpl.1.:1", "cmpl.1.a:-1", "cmpl.1.a:1:1", "cmpl..a:1"],
  ...["cmpl.1.a:1.", "cmpl.1.a:1,b:1", "cmpl.1.*:1", "cmpl.1.>:1", "cmpl.1.a b:1", "cmpl.1.é:1", " cmpl.1.a:1"],
  ...["cmpl.1.a:1e3", `cmpl.1.${"a".repeat(65)}:1`, `cmpl.1.a:${"9".repeat(16)}`],
])("%j is no id", (id) => {
  expect(placeOf(id, "cmpl")).toBeUndefined()
})

test("a stream goes on behind any of its events, with the same ids", async () => {
  const chunks: ReadonlyArray<Chunk> = [0, 1, 0, 0, 1, 1, 0, 1].map((choice, index) => ({ choice, data: { index } }))
  const start: StreamPosition = {
    kind: "cmpl",
    created: 7,
    choices: ["a", "b"].map((session) => ({ session, had: 0 })),
  }
  const of = (place: StreamPosition, chunks: ReadonlyArray<Chunk>) =>
    Effect.runPromise(Stream.runCollect(numbered({ place, resumable: true }, Stream.fromIterable(chunks))))
  const all = await of(start, chunks)
  expect(all.map(({ data }) => data)).toEqual(chunks.map(({ data }) => data))
  for (const [at, { id = "" }] of all.entries()) {
    const place = placeOf(id, "cmpl")
    if (place === undefined) throw new Error(id)
    expect(await of(place, chunks)).toEqual(all.slice(at + 1))
    // Choices come as they come: in another order, each still goes on behind its own last event.
    const byChoice = (choice: number) => chunks.filter((chunk) => chunk.choice === choice)
    const rest = await of(place, [...byChoice(1), ...byChoice(0)])
    const left = [...byChoice(1).slice(place.choices[1]?.had), ...byChoice(0).slice(place.choices[0]?.had)]
    expect(rest.map(({ data }) => data)).toEqual(left.map(({ data }) => data))
  }
})
