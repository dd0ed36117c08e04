// A supervisor's options, as its environment gives them.
import { Result, Schema } from "effect"
import { Deployment, ENVIRONMENT } from "../wire/deployment.ts"
import type { SupervisorOptions } from "./supervisor.ts"

const Count = Schema.NumberFromString.pipe(Schema.check(Schema.isInt(), Schema.isGreaterThanOrEqualTo(0)))

const Environment = Schema.Struct({
  [ENVIRONMENT.nats]: Schema.NonEmptyString,
  [ENVIRONMENT.deployment]: Schema.fromJsonString(Deployment),
  [ENVIRONMENT.epoch]: Count,
})

export interface SupervisorEnvironment extends SupervisorOptions {
  readonly url: string // of NATS
}

export class BadEnvironment extends Schema.TaggedError<BadEnvironment>()("BadEnvironment", { reason: Schema.String }) {
  override get message() {
    return `a supervisor is started by \`chorus up\`, which sets its environment: ${this.reason}`
  }
}

export const readEnvironment = (
  environment: NodeJS.ProcessEnv,
): Result.Result<SupervisorEnvironment, BadEnvironment> => {
  const decoded = Schema.decodeUnknownResult(Environment)(environment)
  if (Result.isFailure(decoded)) {
    return Result.fail(new BadEnvironment({ reason: decoded.failure.message.replaceAll(/\s*\n\s*/g, " ") }))
  }
  const { CHORUS_NATS: url, CHORUS_DEPLOYMENT: deployment, CHORUS_EPOCH: epoch } = decoded.success
  return Result.succeed({ url, deployment, epoch })
}
