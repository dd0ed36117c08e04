// Poison: a session whose passes take their ranks down, wherever it runs, must not take down one replica after the other. It
// has lost its ranks three times in a row, with no token in between; one that gets on between two losses is merely unlucky.
// Sessions that share a batch with it lose them too: so one that has lost them twice runs when no other such session does, and
// without its draft, which it can do without: a third loss is its own doing. Each loss is an entry of the log, so an owner
// that takes the session over counts on.
import { Effect, Schedule } from "effect"
import { type GroupSilent, type PeerSilent, PoisonSession, type UnknownSession } from "../wire/errors.ts"
import { commit } from "./commit.ts"
import { lose, NO_LOSSES } from "./losses.ts"
import { Admitted, SessionPlace } from "./services.ts"
import type { Unplaced } from "./state.ts"

/** After this many losses in a row a session is not tried again. */
const POISON = 3

/** After this many it waits until it is the only one, and drafts no more. */
const SUSPECT = 2

/** Between two tries: a host that is gone has to be noticed. */
const AGAIN = Schedule.spaced("250 millis")

/** Runs a session again when it has lost its ranks, until it is poison; with a draft as long as it is no suspect. */
export const outlasting = <A, E, R>(
  generation: Unplaced,
  runs: (may: { readonly draft: boolean }) => Effect.Effect<A, E | Loss, R>,
) =>
  Effect.suspend(() => {
    const { journal } = generation
    let unlucky = NO_LOSSES
    let suspect = false
    const counts = (error: Loss): boolean => {
      if (!isBlameless(error)) return true
      unlucky = lose(unlucky, journal.logged.length)
      return unlucky.count % UNLUCKY === 0
    }
    return Effect.gen(function* () {
      const { at, count } = journal.losses
      const last = at === journal.logged.length ? count : 0
      if (last >= POISON) return yield* poison(generation, "as its log says")
      if (last < SUSPECT) return yield* runs({ draft: !suspect })
      suspect = true
      return yield* alone(runs({ draft: false }))
    }).pipe(
      Effect.catchIf(isLoss, (error) => (counts(error) ? lost(generation, error) : Effect.fail(error))),
      Effect.retry({ while: isLoss, schedule: AGAIN }),
    )
  })

/** The last one: a rank was started again, quicker than that was noticed. */
type Loss = GroupSilent | PeerSilent | UnknownSession
const LOSSES: ReadonlySet<unknown> = new Set<Loss["_tag"]>(["GroupSilent", "PeerSilent", "UnknownSession"])

const isLoss = (error: unknown): error is Loss =>
  typeof error === "object" && error !== null && "_tag" in error && LOSSES.has(error._tag)

/** A connection that was lost, to a rank or between two, takes no rank down, and is no session's doing. */
const isBlameless = (error: Loss): boolean =>
  error._tag === "PeerSilent" || (error._tag === "GroupSilent" && error.blameless === true)

/** This many of those in a row count as one that is. */
const UNLUCKY = 20

const lost = Effect.fnUntraced(function* (generation: Unplaced, error: Loss) {
  const { run, journal } = generation
  const losses = lose(journal.losses, journal.logged.length)
  yield* commit(generation, { _tag: "Lost", epoch: run.epoch, ...losses })
  return yield* losses.count < POISON ? error : poison(generation, error.message)
})

const poison = ({ run, journal }: Unplaced, reason: string) =>
  new PoisonSession({ session: run.request.session, at: journal.losses.at, losses: journal.losses.count, reason })

/** While no other suspect runs, until it has got on. */
const alone = <A, E, R>(run: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const { suspects } = yield* SessionPlace
    const admitted = yield* Admitted
    const turn = { ours: true }
    const pass = Effect.suspend(() => {
      if (!turn.ours) return Effect.void
      turn.ours = false
      return suspects.release(1)
    })
    return yield* Effect.acquireUseRelease(
      Effect.interruptible(suspects.take(1)), // it may take long
      () =>
        Effect.provideService(run, Admitted, {
          ...admitted,
          progressed: (progress) => {
            admitted.progressed(progress)
            Effect.runSync(pass)
          },
        }),
      () => pass,
    )
  })
