// How an actor reads its environment: every variable is checked before anything is started.
import { Result, Schema } from "effect"

export class BadEnvironment extends Schema.TaggedError<BadEnvironment>()("BadEnvironment", {
  actor: Schema.String, // "a rank"
  reason: Schema.String,
}) {
  override get message() {
    return `the environment of ${this.actor}, which \`chorus up\` sets, is wrong: ${this.reason}`
  }
}

export const badEnvironment = (actor: string, reason: string): Result.Result<never, BadEnvironment> =>
  Result.fail(new BadEnvironment({ actor, reason: reason.replaceAll(/\s*\n\s*/g, " ") }))

/** The variables of `schema`, or which one is wrong and how. */
export const decodeEnvironment = <S extends Schema.ConstraintDecoder<unknown>>(
  actor: string,
  schema: S,
  environment: NodeJS.ProcessEnv,
): Result.Result<S["Type"], BadEnvironment> =>
  Result.match(Schema.decodeUnknownResult(schema)(environment), {
    onFailure: ({ message }) => badEnvironment(actor, message),
    onSuccess: (variables) => Result.succeed(variables),
  })
