// A rank's options, as its environment gives them.
import { Result, Schema } from "effect"
import { Deployment, ENVIRONMENT, GroupName } from "../wire/deployment.ts"
import type { RankOptions } from "./rank.ts"

const Count = Schema.NumberFromString.pipe(Schema.check(Schema.isInt(), Schema.isGreaterThanOrEqualTo(0)))

const Environment = Schema.Struct({
  [ENVIRONMENT.nats]: Schema.NonEmptyString,
  [ENVIRONMENT.deployment]: Schema.fromJsonString(Deployment),
  [ENVIRONMENT.group]: GroupName,
  [ENVIRONMENT.rank]: Count,
  [ENVIRONMENT.epoch]: Count,
  [ENVIRONMENT.standby]: Schema.optionalKey(Schema.String),
  [ENVIRONMENT.device]: Schema.optionalKey(Schema.NonEmptyString),
})

export interface RankEnvironment extends RankOptions {
  readonly url: string // of NATS
}

export class BadEnvironment extends Schema.TaggedError<BadEnvironment>()("BadEnvironment", { reason: Schema.String }) {
  override get message() {
    return `a rank is started by \`chorus up\`, which sets its environment: ${this.reason}`
  }
}

export const readEnvironment = (environment: NodeJS.ProcessEnv): Result.Result<RankEnvironment, BadEnvironment> => {
  const decoded = Schema.decodeUnknownResult(Environment)(environment)
  if (Result.isFailure(decoded)) return bad(decoded.failure.message.replaceAll(/\s*\n\s*/g, " "))
  const { CHORUS_DEPLOYMENT: deployment, CHORUS_GROUP: name, CHORUS_RANK: rank, ...rest } = decoded.success
  const described = deployment[name]
  if (described === null || described === undefined)
    return bad(`${ENVIRONMENT.group} is ${name}, which the deployment ${deployment.name} does not have`)
  const group = { ...described, device: rest.CHORUS_DEVICE ?? described.device }
  if (rank >= group.ranks && rest.CHORUS_STANDBY === undefined)
    return bad(`${ENVIRONMENT.rank} is ${rank}, the group ${name} has ${group.ranks} ranks`)
  return Result.succeed({ url: rest.CHORUS_NATS, epoch: rest.CHORUS_EPOCH, deployment, group, member: rank })
}

const bad = (reason: string) => Result.fail(new BadEnvironment({ reason }))
