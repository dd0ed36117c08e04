// The memory for KV that ready ranks say they have.
import { SubscriptionRef } from "effect"
import type { Group } from "../group/group.ts"
import type { Deployment } from "../wire/deployment.ts"

/** Tokens that a replica has memory for, of all its sessions together. */
export const kvTokensOf = (deployment: Deployment, groups: ReadonlyArray<Group>): number =>
  deployment.kvTokens ?? Math.max(deployment.context, tokensOf(groups))

/** Tokens that every rank has memory for. Ranks may share a machine, so each counts on its part of what it finds free. */
const tokensOf = (groups: ReadonlyArray<Group>): number => {
  const ranks = groups.flatMap(({ beats }) => [...SubscriptionRef.getUnsafe(beats).values()])
  return Math.floor(Math.min(...ranks.map(({ kvTokens }) => kvTokens)) / Math.max(1, ranks.length))
}
