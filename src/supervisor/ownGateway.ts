// A gateway beside what it serves: started first of all, since its port may be taken; what there is to serve, it finds.
import { Effect } from "effect"
import { ENVIRONMENT } from "../wire/deployment.ts"
import { startServing } from "./actorProcess.ts"

/** It listens when this ends. */
export const ownGateway = (nats: string, environment: Readonly<Record<string, string>>) =>
  startServing({
    ...{ name: "the gateway", file: "gateway.ts" },
    environment: { ...environment, [ENVIRONMENT.nats]: nats },
  }).pipe(Effect.map(({ url, ...gateway }) => ({ ...gateway, url: url ?? "" })))
