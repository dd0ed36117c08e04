// What can end a generation before its time.
import { Schema } from "effect"
import { LogFailed, LogMoved } from "../store/append.ts"
import { GroupSilent, PassError, SessionExpired } from "../wire/errors.ts"

/** Of a pass. */
const GroupError = Schema.Union([...PassError.members, GroupSilent])
export type GroupError = typeof GroupError.Type

/** Another supervisor has taken the session over. */
export class OwnerChanged extends Schema.TaggedError<OwnerChanged>()("OwnerChanged", { session: Schema.String }) {
  override get message() {
    return `session ${this.session} has another owner`
  }
}

const LogError = Schema.Union([LogFailed, LogMoved])

export const GenerateError = Schema.Union([...GroupError.members, ...LogError.members, SessionExpired])
export type GenerateError = typeof GenerateError.Type
