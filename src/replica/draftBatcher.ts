// Runs the decisions of draftBatch.ts: a group whose sessions draft together.
import { Deferred, Effect, FiberSet } from "effect"
import type { Group, GroupError, Timed } from "../group/group.ts"
import { STRATEGIES } from "../rank/strategy/strategies.ts"
import type { Strategy } from "../wire/deployment.ts"
import { GroupSilent } from "../wire/errors.ts"
import { type Drafted, PASS_ROWS } from "../wire/pass.ts"
import { type BatchAction, type BatchEvent, decide, idle } from "./draftBatch.ts"

type Draft = Parameters<Group["draft"]>[0]
type Trees = Drafted["trees"]

interface PendingDraft {
  readonly draft: Draft
  readonly answer: Deferred.Deferred<Timed<Drafted>, GroupError>
}

/** Where the strategy leaves it to the supervisor; elsewhere the ranks find by themselves what can run together. */
export const draftBatcher = Effect.fnUntraced(function* (group: Group, strategy: Strategy) {
  if (STRATEGIES[strategy].batches === "ranks") return group
  const asked = new Map<number, PendingDraft>()
  const fork = yield* FiberSet.makeRuntime<never, void>()
  let closed = false
  // A draft that still waits then would wait for ever: the group's answers are no longer listened to.
  const gone = new GroupSilent({ group: group.name, reason: "its ranks were given up", blameless: true })
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      closed = true
      for (const { answer } of asked.values()) Deferred.doneUnsafe(answer, Effect.fail(gone))
    }),
  )
  let state = idle(PASS_ROWS)
  let last = 0

  const happen = (event: BatchEvent): void => {
    const [next, actions] = decide(state, event)
    state = next
    for (const action of actions) fork(run(action))
  }

  const run = ({ ids }: BatchAction): Effect.Effect<void> =>
    Effect.suspend(() => {
      const all = ids.flatMap((id) => asked.get(id) ?? [])
      return Effect.ensuring(
        together(all),
        Effect.sync(() => happen({ _tag: "Answered" })),
      )
    })

  /** One that cannot run fails the command, so each is then asked for by itself: the others do not fail with it. */
  const together = (all: ReadonlyArray<PendingDraft>): Effect.Effect<void> => {
    const [first, ...more] = all
    if (first === undefined) return Effect.void
    if (more.length === 0) return alone(first)
    const [one, ...others] = first.draft.sessions
    const sessions = [one, ...others, ...more.flatMap(({ draft }) => draft.sessions)] as const
    return group.draft({ ...first.draft, sessions }).pipe(
      Effect.flatMap(({ answer, millis, bytes }) => {
        const left = [...answer.trees]
        return Effect.forEach(
          all,
          (asked) => {
            const { length } = asked.draft.sessions
            const [tree, ...further] = left.splice(0, length)
            if (tree === undefined) return alone(asked)
            const trees: Trees = [tree, ...further]
            const part = Math.round((bytes * length) / sessions.length)
            return Deferred.succeed(asked.answer, { answer: { ...answer, trees }, millis, bytes: part })
          },
          { discard: true },
        )
      }),
      Effect.catch(() => Effect.forEach(all, alone, { concurrency: "unbounded", discard: true })),
    )
  }

  const alone = ({ draft, answer }: PendingDraft): Effect.Effect<void> =>
    Effect.flatMap(Effect.exit(group.draft(draft)), (exit) => Effect.asVoid(Deferred.complete(answer, exit)))

  const draft = (draft: Draft): Effect.Effect<Timed<Drafted>, GroupError> =>
    Effect.suspend(() => {
      if (closed) return Effect.fail(gone)
      const id = ++last
      const answer = Deferred.makeUnsafe<Timed<Drafted>, GroupError>()
      asked.set(id, { draft, answer })
      const { fuzzy, sessions } = draft
      const rows = sessions.reduce((sum, { accepted, width }) => sum + Math.max(accepted.length, width), 0)
      happen({ _tag: "Wanted", wanted: { id, fuzzy, rows } })
      return Effect.ensuring(
        Deferred.await(answer),
        Effect.sync(() => {
          asked.delete(id)
          happen({ _tag: "Withdrawn", id })
        }),
      )
    })
  const service: Group = { ...group, draft }
  return service
})
