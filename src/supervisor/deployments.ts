// The two buckets that all of a server's actors share: what is to be served, and by which replicas it is.
import { Effect } from "effect"
import { openBucket } from "../fabric/bucket.ts"
import { StoredDeployment } from "../wire/deployment.ts"
import { Replicas } from "../wire/replicas.ts"

export const openDeployments = openBucket("chorus_deployments", StoredDeployment)

export const openBuckets = Effect.all({
  deployments: openDeployments,
  replicas: openBucket("chorus_replicas", Replicas),
})
