// What can end a generation before its time.
import { Schema } from "effect"
import { LogFailed, LogMoved } from "../fabric/tokenLog.ts"
import { GroupSilent, PassError } from "../wire/errors.ts"

/** Of a pass. */
export const GroupError = Schema.Union([...PassError.members, GroupSilent])
export type GroupError = typeof GroupError.Type

export const LogError = Schema.Union([LogFailed, LogMoved])

export const GenerateError = Schema.Union([...GroupError.members, ...LogError.members])
export type GenerateError = typeof GenerateError.Type
