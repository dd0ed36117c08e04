// A gateway beside what it serves: started first of all, since its port may be taken; what there is to serve, it finds.
import { Effect } from "effect"
import { startServing } from "../host/process.ts"

/** It listens when this ends. `nats` is its environment, of where NATS is and what it shows there. */
export const ownGateway = (nats: Readonly<Record<string, string>>, environment: Readonly<Record<string, string>>) =>
  startServing({
    ...{ name: "the gateway", file: "gateway.ts" },
    environment: { ...environment, ...nats },
  }).pipe(Effect.map(({ url, ...gateway }) => ({ ...gateway, url: url ?? "" })))
