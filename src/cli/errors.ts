// What the command line itself refuses. Everything else that fails has a tagged error of its own, whose message is shown
// as it is.
import { Schema } from "effect"

/** Options that do not go together, or lack something: exit code 2. */
export class UsageError extends Schema.TaggedError<UsageError>()("UsageError", { reason: Schema.String }) {
  override get message() {
    return this.reason
  }
}

/** A command could not do what it was asked for: exit code 1. */
export class CommandFailed extends Schema.TaggedError<CommandFailed>()("CommandFailed", { reason: Schema.String }) {
  override get message() {
    return this.reason
  }
}
