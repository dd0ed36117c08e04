// On how many servers a copy of what is stored is kept: in a cluster on three, so that losing one loses nothing.
import type { NatsConnection } from "@nats-io/transport-node"

/** A JetStream cluster has three servers or more. */
const IN_A_CLUSTER = 3

export const copiesAt = ({ info }: NatsConnection): number => (info?.cluster === undefined ? 1 : IN_A_CLUSTER)
