// Which models are served, as their supervisors say by the NATS services protocol.
import type { NatsConnection } from "@nats-io/transport-node"
import { Option, Schema } from "effect"
import { SUPERVISORS } from "../wire/subjects.ts"

export interface ServedModel {
  readonly deployment: string // what a client connects to
  readonly model: string
  readonly context: number // tokens of a session, prompt and answer
  readonly base: string // "single x 1"
  readonly draft: string // "layer x 2", or "none"
  readonly deterministic: boolean
  readonly supervisors: number
}

/** An answer to $SRV.INFO, the parts that are used: github.com/nats-io/nats-architecture-and-design, ADR-32. */
const Info = Schema.Struct({
  id: Schema.String,
  metadata: Schema.Struct({
    deployment: Schema.String,
    model: Schema.String,
    context: Schema.FiniteFromString,
    base: Schema.String,
    draft: Schema.String,
    deterministic: Schema.String,
  }),
})
const decodeInfo = Schema.decodeUnknownOption(Schema.fromJsonString(Info))

/** How long answers are waited for; the first silence of a third of it ends the wait. */
const WAIT_MILLIS = 900

export const servedModels = async (connection: NatsConnection): Promise<ReadonlyArray<ServedModel>> => {
  const models = new Map<string, ServedModel>()
  const options = { strategy: "stall", maxWait: WAIT_MILLIS } as const
  for await (const message of await connection.requestMany(SUPERVISORS, "", options)) {
    const info = decodeInfo(message.string())
    if (Option.isNone(info)) continue // no answer, or a foreign service of that name
    const { deterministic, ...rest } = info.value.metadata
    const supervisors = (models.get(rest.deployment)?.supervisors ?? 0) + 1
    models.set(rest.deployment, { ...rest, deterministic: deterministic === "true", supervisors })
  }
  return [...models.values()].sort((a, b) => (a.deployment < b.deployment ? -1 : 1))
}
