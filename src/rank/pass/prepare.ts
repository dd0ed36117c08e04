// KV bookkeeping: what a command needs of a session before its pass runs. Every rank of a group does the same, so a group
// stays of one mind, and a rank that cannot says so with a typed error and changes nothing.
import { Effect } from "effect"
import { rowFrom, slotOfRow } from "../../speculation/indices.ts"
import { type InvalidRequest, PassFailed, UnknownSession } from "../../wire/errors.ts"
import type { Decode, PassCommand, Prefill, SessionDraft, Verify } from "../../wire/pass.ts"
import type { Compute, ComputeFailed } from "../device/compute.ts"
import type { Fetch } from "../kv/transfer.ts"
import { type Bounds, check } from "./check.ts"

export interface Member {
  readonly group: string
  readonly rank: number
  readonly bounds: Bounds
  readonly compute: Compute["Service"]
  readonly fetch?: Fetch // KV of another group
}

export type PrepareError = InvalidRequest | UnknownSession | ComputeFailed

/** Leaves each session with exactly `committed` tokens in its KV, the ones that the command builds on. */
export const prepare = (member: Member, command: PassCommand): Effect.Effect<void, PrepareError> =>
  Effect.gen(function* () {
    const invalid = check(member.bounds, command)
    if (invalid !== null) return yield* Effect.fail(invalid)
    switch (command._tag) {
      case "Prefill":
        return yield* preparePrefill(member, command)
      case "Decode":
      case "Verify":
        return yield* prepareVerify(member, command)
      case "Draft":
        return yield* Effect.forEach(command.sessions, (draft) => shorten(member, draft), { discard: true })
    }
  })

const preparePrefill = Effect.fnUntraced(function* (member: Member, command: Prefill) {
  const { session, from, committed } = command
  if (from === undefined && committed > 0) return yield* shorten(member, command)
  yield* member.compute.close(session) // a former life of it
  yield* member.compute.open(session, command.sampling)
  if (from === undefined) return
  const fetched = command.source === undefined ? undefined : member.fetch?.(command, command.source)
  if (yield* fetched ?? member.compute.copy(from, session, committed)) return
  yield* member.compute.close(session)
  return yield* unknown(member, { session: from, committed }, lengthOf(member, from))
})

/** Keeps the accepted rows of the last verify pass, unless an earlier attempt at this command has done so. */
const prepareVerify = Effect.fnUntraced(function* (member: Member, command: Decode | Verify) {
  const { compute } = member
  const { session, committed, acceptedRows } = command
  const held = lengthOf(member, session)
  if (held >= committed) return yield* compute.truncate(session, committed)
  const last = acceptedRows.at(-1)
  if (
    held < 0 ||
    last === undefined ||
    held + acceptedRows.length !== committed ||
    held + last >= compute.used(session)
  ) {
    return yield* unknown(member, command, held)
  }
  yield* compute.commit(
    session,
    Int32Array.from(acceptedRows, (row) => slotOfRow(held, rowFrom(row))),
  )
})

/** Drops what lies beyond: fuzzy entries, and the rows of an earlier attempt. */
const shorten = Effect.fnUntraced(function* (member: Member, command: Pick<SessionDraft, "session" | "committed">) {
  const held = lengthOf(member, command.session)
  if (held < command.committed) return yield* unknown(member, command, held)
  yield* member.compute.truncate(command.session, command.committed)
})

const lengthOf = ({ compute }: Member, session: string): number =>
  compute.holds(session) ? compute.committed(session) : -1

const unknown = (
  { group, rank }: Member,
  { session, committed }: Pick<SessionDraft, "session" | "committed">,
  actual: number,
) => Effect.fail(new UnknownSession({ group, rank, session, expected: committed, actual }))

export const passFailed = ({ group, rank }: Member, reason: string) => new PassFailed({ group, rank, reason })
