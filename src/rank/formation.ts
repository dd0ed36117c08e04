// What a process of a group is: a rank of it, its standby, or nothing any more. It begins as what it was started as, and
// changes with the formations that the controller tells.
import { Effect, Result, SubscriptionRef } from "effect"
import { Bus } from "../bus/bus.ts"
import { codec } from "../wire/codec.ts"
import type { Group } from "../wire/deployment.ts"
import { Formation } from "../wire/formation.ts"
import { formationSubject } from "../wire/subjects.ts"

const formations = codec("formation", Formation)

export interface MemberRole {
  readonly epoch: number // of the group
  readonly role: number | "standby" | "lost" // a rank; or one whose place another has taken
}

export interface FormationOptions {
  readonly deployment: string
  readonly activation: number
  readonly group: Group
  readonly member: number
}

/** The process's place, as it changes until the scope closes. */
export const followFormation = Effect.fnUntraced(function* ({
  deployment,
  activation,
  group,
  member,
}: FormationOptions) {
  const { subscribe } = yield* Bus
  const first: MemberRole = { epoch: activation, role: member < group.ranks ? member : "standby" }
  const role = yield* SubscriptionRef.make(first)
  const runFork = Effect.runForkWith(yield* Effect.context())
  const hear = (message: Uint8Array): Effect.Effect<void> => {
    const told = formations.decode(message)
    if (Result.isFailure(told)) return Effect.logWarning(told.failure.message)
    return SubscriptionRef.update(role, (now) => moved(now, told.success, group.name, member))
  }
  yield* subscribe(formationSubject(deployment, activation), ({ data }) => void runFork(hear(data)))
  return role
})

const moved = (now: MemberRole, told: Formation, group: Group["name"], member: number): MemberRole => {
  if (told.epoch <= now.epoch) return now
  const rank = told[group].indexOf(member)
  if (rank >= 0) return { epoch: told.epoch, role: rank }
  return { epoch: told.epoch, role: now.role === "standby" ? "standby" : "lost" }
}
