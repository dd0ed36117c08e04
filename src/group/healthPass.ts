// A group's health is a pass that ran: one token through all its ranks, from the command to the answer. That processes are
// there, and say that they are ready, proves neither their devices nor the ways between them.
import { randomUUID } from "node:crypto"
import { Effect } from "effect"
import { PassFailed } from "../wire/errors.ts"
import { GREEDY } from "../wire/pass.ts"
import type { Group, GroupError } from "./group.ts"

/** The pass before it may keep the device for a long chunk of a prompt. */
const PATIENCE_MILLIS = 60_000

/** Ends when a pass has run. Fails with what is wrong with the group. */
export const healthPass = (group: Group): Effect.Effect<void, GroupError> => {
  const session = `health-${randomUUID()}`
  return group.prefill({ _tag: "Prefill", session, committed: 0, tokens: [0], sampling: GREEDY }).pipe(
    Effect.timeoutOrElse({
      duration: PATIENCE_MILLIS,
      orElse: () =>
        Effect.fail(new PassFailed({ group: group.name, rank: 0, reason: `it did not end in ${PATIENCE_MILLIS} ms` })),
    }),
    Effect.ensuring(group.control({ _tag: "Abort", session })),
    Effect.asVoid,
  )
}
