// How many servers keep what is stored: in a cluster three, so that losing one loses nothing.
import type { NatsConnection } from "@nats-io/transport-node"

/** A JetStream cluster has three servers or more. */
const IN_A_CLUSTER = 3

export const replicasAt = ({ info }: NatsConnection): number => (info?.cluster === undefined ? 1 : IN_A_CLUSTER)
