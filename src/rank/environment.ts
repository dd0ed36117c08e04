// A rank's options, as its environment gives them.
import { Result, Schema } from "effect"
import { Deployment, ENVIRONMENT, GroupName } from "../wire/deployment.ts"
import { type BadEnvironment, badEnvironment, decodeEnvironment } from "../wire/environment.ts"
import { CountFromString } from "../wire/scalar.ts"
import type { RankOptions } from "./rank.ts"

const ACTOR = "a rank"

const Environment = Schema.Struct({
  [ENVIRONMENT.nats]: Schema.NonEmptyString,
  [ENVIRONMENT.deployment]: Schema.fromJsonString(Deployment),
  [ENVIRONMENT.group]: GroupName,
  [ENVIRONMENT.rank]: CountFromString,
  [ENVIRONMENT.epoch]: CountFromString,
  [ENVIRONMENT.standby]: Schema.optionalKey(Schema.String),
  [ENVIRONMENT.device]: Schema.optionalKey(Schema.NonEmptyString),
})

export interface RankEnvironment extends RankOptions {
  readonly url: string // of NATS
}

export const readEnvironment = (environment: NodeJS.ProcessEnv): Result.Result<RankEnvironment, BadEnvironment> => {
  const decoded = decodeEnvironment(ACTOR, Environment, environment)
  if (Result.isFailure(decoded)) return Result.fail(decoded.failure)
  const { CHORUS_DEPLOYMENT: deployment, CHORUS_GROUP: name, CHORUS_RANK: rank, ...rest } = decoded.success
  const described = deployment[name]
  if (described === null || described === undefined)
    return bad(`${ENVIRONMENT.group} is ${name}, which the deployment ${deployment.name} does not have`)
  const group = { ...described, device: rest.CHORUS_DEVICE ?? described.device }
  if (rank >= group.ranks && rest.CHORUS_STANDBY === undefined)
    return bad(`${ENVIRONMENT.rank} is ${rank}, the group ${name} has ${group.ranks} ranks`)
  return Result.succeed({ url: rest.CHORUS_NATS, epoch: rest.CHORUS_EPOCH, deployment, group, member: rank })
}

const bad = (reason: string) => badEnvironment(ACTOR, reason)
