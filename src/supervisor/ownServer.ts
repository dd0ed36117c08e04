// A nats-server of one's own, whose end is the end of all that needs it.
import { Deferred, Effect } from "effect"
import { start } from "../fabric/natsServer.ts"
import { ActorEnded } from "./actorProcess.ts"

export const ownServer = Effect.fnUntraced(function* (ended: Deferred.Deferred<never, ActorEnded>) {
  const server = yield* start()
  yield* Effect.forkScoped(
    Effect.flatMap(server.stopped, ({ how, lastLines }) =>
      Deferred.fail(ended, new ActorEnded({ actor: "nats-server", how, said: lastLines.join(" ") })),
    ),
  )
  return server
})
