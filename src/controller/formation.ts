// A replica's ranks when a standby takes a place: which process is which rank from then on.
import type { GroupName } from "../wire/deployment.ts"
import type { Formation } from "../wire/formation.ts"
import type { Replica } from "../wire/replicas.ts"
import type { LostRank } from "./reconcile.ts"

/** The replica with its standbys in the places of the lost ranks, in a new epoch. Null where one has no standby. */
export const takenOver = (
  replica: Replica,
  lost: ReadonlyArray<LostRank>,
  { formed, now }: { readonly formed: number; readonly now: number },
): Replica | null => {
  let { ranks, standbys } = replica
  for (const { group, rank } of lost) {
    const standby = standbys.find((one) => one.group === group)
    if (standby === undefined) return null
    standbys = standbys.filter((one) => one !== standby)
    ranks = ranks.map((one) => (one.group === group && one.rank === rank ? { ...standby, rank } : one))
  }
  return { ...replica, formed, ranks, standbys, since: now }
}

/** What a replica's processes are told. */
export const formationOf = ({ formed, ranks }: Replica): Formation => {
  const membersOf = (group: GroupName) =>
    ranks
      .filter((one) => one.group === group)
      .sort((a, b) => a.rank - b.rank)
      .map(({ member }) => member)
  return {
    _tag: "Formation",
    epoch: formed,
    base: membersOf("base"),
    draft: membersOf("draft"),
    prefill: membersOf("prefill"),
  }
}
