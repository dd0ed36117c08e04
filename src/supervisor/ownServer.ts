// A nats-server of one's own as a child.
import { Effect } from "effect"
import { type NatsServerOptions, start } from "../fabric/natsServer.ts"
import { ActorEnded } from "./actorProcess.ts"

export const ownServer = (options: NatsServerOptions = {}) =>
  Effect.map(start(options), ({ url, pid, stopped }) => ({
    ...{ url, pid },
    ended: Effect.map(stopped, ({ how, lastLines }) => {
      const said = how.startsWith("signal") ? "" : lastLines.join(" ") // a signal leaves no last words
      return new ActorEnded({ actor: "nats-server", how, said })
    }),
  }))
