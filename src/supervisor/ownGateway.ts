// A gateway beside what it serves: started first of all, since its port may be taken; what there is to serve, it finds.
import { Deferred, Effect, Schema } from "effect"
import { type ActorEnded, startActor } from "./actorProcess.ts"

const Listening = Schema.Struct({ url: Schema.String })

/** Its end is the end of the whole. */
export const ownGateway = Effect.fnUntraced(function* (
  nats: Readonly<Record<string, string>>, // its environment, of where NATS is
  environment: Readonly<Record<string, string>>,
  ended: Deferred.Deferred<never, ActorEnded>,
) {
  const gateway = yield* startActor({
    ...{ name: "the gateway", file: "gateway.ts" },
    environment: { ...environment, ...nats },
  })
  yield* Effect.forkScoped(Effect.flatMap(gateway.ended, (how) => Deferred.fail(ended, how)))
  const said = yield* Effect.raceFirst(gateway.ready, Deferred.await(ended))
  const { url } = Schema.decodeUnknownSync(Listening)(said)
  return { url, pid: gateway.pid }
})
