// What systemd or Kubernetes does for an installation: a process that has ended is started again, whatever it died of.
import { Effect, type Scope } from "effect"
import type { Role } from "./plan.ts"

/** systemd's units of Chorus wait as long. */
const RESTART_MILLIS = 2_000

/** A process that was started. */
export interface Running {
  readonly pid: number
  readonly ready: Effect.Effect<unknown>
  /** Ends with what became of it, where it has not been told to end. */
  readonly ended: Effect.Effect<string>
}

export interface Wanted {
  readonly name: string
  readonly role: Role
  readonly start: Effect.Effect<Running, Error, Scope.Scope>
}

/** One that is kept running. */
export interface Kept extends Pick<Wanted, "name" | "role"> {
  readonly pid: () => number // 0 while it does not run
  readonly isUp: () => boolean
  /** Its next end is wanted, and no accident. */
  readonly expectEnd: () => void
}

/** Keeps it running until the scope closes. `accident` hears of an end that was not wanted. */
export const keepRunning = Effect.fnUntraced(function* (
  { name, role, start }: Wanted,
  accident: (what: string) => void,
) {
  let running: Running | null = null
  let isUp = false
  let expected = false
  const once = Effect.gen(function* () {
    running = yield* start
    const up = Effect.andThen(
      running.ready,
      Effect.sync(() => {
        isUp = true
      }),
    )
    return yield* Effect.raceFirst(Effect.andThen(up, Effect.never), running.ended)
  }).pipe(
    Effect.tap((how) =>
      Effect.sync(() => (isUp && !expected ? accident(`${name} has ended: ${oneLine(how)}`) : undefined)),
    ),
    Effect.catch(({ message }) => Effect.sync(() => accident(`${name} does not start: ${oneLine(message)}`))),
    Effect.ensuring(
      Effect.sync(() => {
        running = null
        isUp = false
        expected = false
      }),
    ),
    Effect.scoped,
  )
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(once, Effect.sleep(RESTART_MILLIS))))
  const kept: Kept = {
    ...{ name, role },
    pid: () => running?.pid ?? 0,
    isUp: () => isUp,
    expectEnd: () => {
      expected = true
      isUp = false
    },
  }
  return kept
})

/** What it said last tells the reason. */
const oneLine = (text: string): string => {
  const lines = text.trim().split("\n")
  return lines.length === 1 ? (lines[0] ?? "") : `${lines[0]} ... ${lines.at(-1)?.trim()}`
}
