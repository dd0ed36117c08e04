// The buckets that all of a server's actors share: what is to be served, by which replicas it is, and which hosts drain.
import { Effect } from "effect"
import { StoredDeployment } from "../wire/deployment.ts"
import { Drain } from "../wire/host.ts"
import { Replicas } from "../wire/replicas.ts"
import { openBucket } from "./bucket.ts"

export const openDeployments = openBucket("chorus_deployments", StoredDeployment)

export const openBuckets = Effect.all({
  deployments: openDeployments,
  replicas: openBucket("chorus_replicas", Replicas),
})

export const openDrains = openBucket("chorus_drains", Drain)
