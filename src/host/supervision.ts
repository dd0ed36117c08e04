// The supervision tree, in OTP's terms: which process supervises which, and with which strategy:
//
//   chorus up                one_for_one   its nats-server, the gateway, the host, the supervisor
//     host                   one_for_one   its ranks
//   chorus generate, demo    one_for_all   nats-server, the ranks, the supervisor, the gateway; nothing is restarted:
//                                          the command can be given again, with the same tokens
//
// A host or a supervisor that runs by itself is supervised by what started it: systemd, a kubelet, a terminal. Above the hosts
// is the controller: it places what a host has given up on another one. How often a child is restarted is in restart.ts.
import { Deferred, Effect, Schema, type Scope } from "effect"
import { ActorEnded } from "./process.ts"
import { type History, RESTARTS, restart } from "./restart.ts"

/** A process that runs. */
export interface Child {
  readonly pid: number
  /** Ends, with what happened, when it does so by itself. */
  readonly ended: Effect.Effect<ActorEnded>
}

/** How a child is started; in its scope, with which it ends. */
export interface ChildSpec<C extends Child, E extends Error> {
  readonly name: string
  readonly start: Effect.Effect<C, E, Scope.Scope>
  /** It has ended by itself, and is started again after a pause. */
  readonly restarting: (ended: ActorEnded, afterMillis: number) => void
  /** It has been started. */
  readonly running: (child: C) => void
}

/** A child ended too often. */
export class GivenUp extends Schema.TaggedError<GivenUp>()("GivenUp", {
  child: Schema.String,
  restarts: Schema.Int,
  reason: Schema.String, // of the last end
}) {
  override get message() {
    return `${this.reason}; given up after ${this.restarts} restarts`
  }
}

/** one_for_one: runs a child, and starts it again when it ends by itself. Ends when it is given up. */
export const oneForOne = <C extends Child, E extends Error>(spec: ChildSpec<C, E>): Effect.Effect<GivenUp> =>
  Effect.flatMap(once(spec), (ended) => restarted(spec, ended))

/**
 * one_for_one for a child whose first start has to succeed: what is wrong with its options does not become right by trying
 * again. It ends with the scope; `givenUp` fails when it is given up.
 */
export const supervised = Effect.fnUntraced(function* <C extends Child, E extends Error>(
  spec: ChildSpec<C, E>,
  givenUp: Deferred.Deferred<never, GivenUp>,
) {
  const first = yield* spec.start
  const keep = Effect.flatMap(first.ended, (ended) => restarted(spec, ended))
  yield* Effect.forkScoped(Effect.flatMap(keep, (error) => Deferred.fail(givenUp, error)))
  return first
})

/** one_for_all, where nothing is restarted: the first end is the end of all. */
export const oneForAll = (children: ReadonlyArray<Child>, ended: Deferred.Deferred<never, ActorEnded>) =>
  Effect.forEach(
    children,
    (child) => Effect.forkScoped(Effect.flatMap(child.ended, (how) => Deferred.fail(ended, how))),
    {
      discard: true,
    },
  )

/** How it ended; one that could not be started has ended too. */
const once = <C extends Child, E extends Error>({ name, start, running }: ChildSpec<C, E>): Effect.Effect<ActorEnded> =>
  start.pipe(
    Effect.tap((child) => Effect.sync(() => running(child))),
    Effect.flatMap(({ ended }) => ended),
    Effect.scoped,
    Effect.catch((error) =>
      Effect.succeed(
        error instanceof ActorEnded ? error : new ActorEnded({ actor: name, how: error.message, said: "" }),
      ),
    ),
  )

const restarted = Effect.fnUntraced(function* <C extends Child, E extends Error>(
  spec: ChildSpec<C, E>,
  first: ActorEnded,
) {
  let history: History = []
  for (let ended = first; ; ended = yield* once(spec)) {
    const next = restart(history, performance.now(), RESTARTS)
    if (next._tag === "GiveUp") {
      return new GivenUp({ child: spec.name, restarts: next.restarts, reason: ended.message })
    }
    history = next.history
    spec.restarting(ended, next.afterMillis)
    yield* Effect.sleep(next.afterMillis)
  }
})
