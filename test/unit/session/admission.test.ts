// Admission as a machine: whatever comes in whatever order, memory is never promised twice, no session is forgotten or overtaken.
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import {
  type Admission,
  type AdmissionAction,
  type AdmissionEvent,
  decide,
  empty,
  type Limits,
  reservedTokens,
} from "../../../src/session/admission.ts"

const LIMITS: Limits = { kvTokens: 100, queue: 3, clientSessions: 2 }

const ask = (session: string, tokens: number, client: string | null = null): AdmissionEvent => ({
  _tag: "Asked",
  asking: { session, client, tokens },
})
const end = (session: string, now = 0): AdmissionEvent => ({ _tag: "Ended", session, now })

/** Everything that was decided. */
const run = (limits: Limits, events: ReadonlyArray<AdmissionEvent>) => {
  const actions: Array<AdmissionAction> = []
  const state = events.reduce((state, event) => {
    const [next, more] = decide(state, event)
    actions.push(...more)
    return next
  }, empty(limits))
  return { state, actions, begun: actions.flatMap((action) => (action._tag === "Begin" ? [action.session] : [])) }
}

describe("admission", () => {
  test("sessions begin as long as the memory lasts; then they wait in line", () => {
    const { begun, state } = run(LIMITS, [ask("a", 60), ask("b", 50), ask("c", 10)])
    expect(begun).toEqual(["a"]) // c would fit, and does not overtake b
    expect(state.waiting.map(({ session }) => session)).toEqual(["b", "c"])
    expect(run(LIMITS, [ask("a", 60), ask("b", 50), ask("c", 10), end("a")]).begun).toEqual(["a", "b", "c"])
  })

  test("a full line refuses, and says when to come again by how fast sessions end", () => {
    const four = ["b", "c", "d", "e"].map((session) => ask(session, 50))
    const refused = run(LIMITS, [ask("a", 100), ...four]).actions.at(-1)
    expect(refused).toMatchObject({ _tag: "Overloaded", session: "e", waiting: 3, retryAfterMillis: 4000 })
    const slow = Array.from({ length: 40 }, (_, i) => [ask(`s${i}`, 100), end(`s${i}`, 5000 * i)]).flat()
    const later = run(LIMITS, [...slow, ask("a", 100), ...four]).actions.at(-1)
    expect(later).toMatchObject({ _tag: "Overloaded", retryAfterMillis: expect.closeTo(20_000, -3) })
  })

  test("a session that needs more than there is is refused at once; one that waits when the memory shrinks runs alone", () => {
    expect(run(LIMITS, [ask("a", 101)]).actions).toEqual([{ _tag: "TooLarge", session: "a" }])
    const smaller: AdmissionEvent = { _tag: "Limited", limits: { ...LIMITS, kvTokens: 50 } }
    const { actions } = run(LIMITS, [ask("a", 60), ask("b", 90), ask("c", 40), smaller, end("a")])
    expect(actions.slice(1)).toEqual([{ _tag: "Begin", session: "b" }])
    expect(run(LIMITS, [ask("a", 60), ask("b", 90), ask("c", 40), smaller, end("a"), end("b")]).begun).toEqual([
      "a",
      "b",
      "c",
    ])
  })

  test("a client's sessions are limited, waiting ones too; a client without a name is not counted", () => {
    const events = [ask("a", 90, "x"), ask("b", 90, "x"), ask("c", 1, "x"), ask("d", 1, "y"), ask("e", 1)]
    expect(run(LIMITS, events).actions.slice(1)).toMatchObject([
      { _tag: "ClientLimited", session: "c", client: "x", limit: 2 },
    ])
    expect(run(LIMITS, [...events.slice(0, 2), end("b"), ask("c", 1, "x")]).state.waiting).toHaveLength(0)
  })
})

const Sessions = fc.integer({ min: 0, max: 30 }).map(String)
const Events: fc.Arbitrary<ReadonlyArray<AdmissionEvent>> = fc.array(
  fc.oneof(
    fc
      .record({ tokens: fc.integer({ min: 1, max: 120 }), client: fc.constantFrom("x", "y", null) })
      .map(({ tokens, client }) => ask("", tokens, client)),
    fc.record({ session: Sessions, now: fc.nat() }).map(({ session, now }) => end(session, now)),
    fc
      .integer({ min: 20, max: 150 })
      .map((kvTokens): AdmissionEvent => ({ _tag: "Limited", limits: { ...LIMITS, kvTokens } })),
  ),
  { maxLength: 80 },
)

/** Calls `look` after every event; sessions have the number of the request as their name, as no name comes twice. */
const follow = (
  events: ReadonlyArray<AdmissionEvent>,
  look: (state: Admission, actions: ReadonlyArray<AdmissionAction>, event: AdmissionEvent) => void,
): Admission => {
  let asked = 0
  return events.reduce((before, event) => {
    const named = event._tag === "Asked" ? ask(`${asked++}`, event.asking.tokens, event.asking.client) : event
    const [state, actions] = decide(before, named)
    look(state, actions, named)
    return state
  }, empty(LIMITS))
}

describe("admission, whatever comes", () => {
  test("memory is promised once; only limits that shrink under sessions that run are exceeded", () => {
    fc.assert(
      fc.property(Events, (events) => {
        follow(events, (state, actions) => {
          const began = actions.some(({ _tag }) => _tag === "Begin")
          if (began && state.running.size > 1) {
            expect(reservedTokens(state)).toBeLessThanOrEqual(state.limits.kvTokens)
          }
        })
      }),
    )
  })

  test("every session is refused, or waits, or runs, until it ends; in the order of asking, and never twice", () => {
    fc.assert(
      fc.property(Events, (events) => {
        const answered = new Set<string>()
        let lastBegun = -1
        follow(events, (state, actions, event) => {
          for (const action of actions) {
            expect(answered.has(action.session)).toBe(false)
            answered.add(action.session)
            if (action._tag !== "Begin") continue
            expect(Number(action.session)).toBeGreaterThan(lastBegun)
            lastBegun = Number(action.session)
          }
          if (event._tag !== "Asked") return
          const { session } = event.asking
          const waits = state.waiting.some((other) => other.session === session)
          expect(waits).toBe(!answered.has(session))
          expect(state.waiting.length).toBeLessThanOrEqual(LIMITS.queue)
        })
      }),
    )
  })

  test("none waits while there is room", () => {
    fc.assert(
      fc.property(Events, (events) => {
        follow(events, (state) => {
          const [next] = state.waiting
          if (next === undefined) return
          expect(reservedTokens(state) + next.tokens).toBeGreaterThan(state.limits.kvTokens)
        })
      }),
    )
  })

  test("retry hints are between a tenth of a second and a minute", () => {
    fc.assert(
      fc.property(Events, (events) => {
        follow(events, (_, actions) => {
          for (const action of actions) {
            if (action._tag !== "Overloaded" && action._tag !== "ClientLimited") continue
            expect(action.retryAfterMillis).toBeGreaterThanOrEqual(100)
            expect(action.retryAfterMillis).toBeLessThanOrEqual(60_000)
          }
        })
      }),
    )
  })
})
