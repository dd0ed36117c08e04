// The options of supervisors and hosts, as their environment gives them.
import { Result, Schema } from "effect"
import { accessOf } from "../bus/access.ts"
import { type HostOptions, nameOfMachine } from "../host/host.ts"
import { Deployment, ENVIRONMENT } from "../wire/deployment.ts"
import { type BadEnvironment, decodeEnvironment } from "../wire/environment.ts"
import { CountFromString, Positive } from "../wire/scalar.ts"
import type { SupervisorOptions } from "./supervisor.ts"

/** Without a deployment it serves those of the bucket. */
const SupervisorVariables = Schema.Struct({
  [ENVIRONMENT.nats]: Schema.NonEmptyString,
  [ENVIRONMENT.deployment]: Schema.optionalKey(Schema.fromJsonString(Deployment)),
  [ENVIRONMENT.epoch]: Schema.optionalKey(CountFromString),
})

const HostVariables = Schema.Struct({
  [ENVIRONMENT.nats]: Schema.NonEmptyString,
  [ENVIRONMENT.host]: Schema.optionalKey(
    Schema.fromJsonString(
      Schema.Struct({
        name: Schema.optionalKey(Schema.NonEmptyString),
        cores: Schema.optionalKey(Positive),
        memory: Schema.optionalKey(Positive), // bytes
        drainMillis: Schema.optionalKey(Positive),
      }),
    ),
  ),
})

export interface SupervisorEnvironment {
  readonly url: string // of NATS
  readonly fixed: SupervisorOptions | null // one deployment whose ranks others start; null: those of the bucket
}

export const readEnvironment = (
  environment: NodeJS.ProcessEnv,
): Result.Result<SupervisorEnvironment, BadEnvironment> => {
  const decoded = decodeEnvironment("a supervisor", SupervisorVariables, environment)
  if (Result.isFailure(decoded)) return Result.fail(decoded.failure)
  const { CHORUS_NATS: url, CHORUS_DEPLOYMENT: deployment, CHORUS_EPOCH: epoch = 1 } = decoded.success
  return Result.succeed({ url, fixed: deployment === undefined ? null : { deployment, epoch } })
}

export const readHostEnvironment = (environment: NodeJS.ProcessEnv): Result.Result<HostOptions, BadEnvironment> => {
  const decoded = decodeEnvironment("a host", HostVariables, environment)
  if (Result.isFailure(decoded)) return Result.fail(decoded.failure)
  const { CHORUS_NATS: url, CHORUS_HOST: given = {} } = decoded.success
  const { name = nameOfMachine(), cores = null, memory = null, drainMillis = 0 } = given
  return Result.succeed({ url, access: accessOf("host", null, environment), name, cores, memory, drainMillis })
}
