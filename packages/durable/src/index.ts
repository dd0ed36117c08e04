// The public face of the workflow engine: one layer for everything, since a program that has nothing else on NATS has no
// use for its parts. What it does is src/durable.
import "./runtime.ts"
import { Context, Effect, Layer } from "effect"
import type { WorkflowEngine } from "effect/workflow"
import * as Engine from "../../../src/durable/engine.ts"
import { Ownership as EngineOwnership } from "../../../src/durable/ownership.ts"
import { Presence } from "../../../src/durable/presence.ts"
import { onNats } from "../../../src/store/jetStream.ts"
import { InvalidRequest } from "../../../src/wire/errors.ts"
import { isName } from "../../../src/wire/subjects.ts"
import type { EngineError } from "./errors.ts"

export type * from "./errors.ts"

export interface EngineOptions {
  /** NATS servers of one cluster, with JetStream: nats://host:port. CHORUS_NATS_KEY names a file with an nkey's seed, CHORUS_NATS_CA a certificate to trust. */
  readonly servers: string | ReadonlyArray<string>
  /** Of the executions: engines of the same one take over from each other. Letters, digits, - and _. */
  readonly namespace: string
  /** Of the records, with a second one for results beside it; chorus_executions. */
  readonly bucket?: string
  /** How long the result of an execution can be asked for; an hour. */
  readonly keepMillis?: number
}

/** What the engine of this process runs. */
export class Executions extends Context.Service<
  Executions,
  {
    /** Ends when nothing runs. */
    readonly idle: Effect.Effect<void>
    /** Ends when this execution does not run. */
    readonly left: (executionId: string) => Effect.Effect<void>
  }
>()("@chorus/durable/Executions") {}

/**
 * How a workflow that runs has come to be run here: epoch 1 for who has begun it, one more for each owner after. A fencing
 * token for what its activities do to the world.
 */
export const Ownership: Context.Reference<{ readonly epoch: number }> = EngineOwnership

/**
 * effect's WorkflowEngine on NATS. When the scope closes, what runs here is handed over to whoever is first.
 *
 * @example
 * ```ts
 * program.pipe(Effect.provide(workflows), Effect.provide(layer({ servers: "nats://127.0.0.1:4222", namespace: "orders" })))
 * ```
 */
export const layer = ({
  servers,
  namespace,
  ...kept
}: EngineOptions): Layer.Layer<WorkflowEngine.WorkflowEngine | Executions, EngineError> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const url = typeof servers === "string" ? servers : servers.join(",")
      if (url === "") return yield* invalid("servers", "name at least one: nats://host:port")
      if (!isName(namespace)) return yield* invalid("namespace", `is "${namespace}"; expected letters, digits, - and _`)
      return Layer.effect(
        Executions,
        Effect.map(Engine.Executions, (running) => Executions.of(running)),
      ).pipe(
        Layer.provideMerge(Engine.layer({ namespace, ...kept })),
        Layer.provide(Presence.layer),
        Layer.provide(onNats({ url, name: `${namespace} workflows`, role: "supervisor" })),
      )
    }),
  )

const invalid = (field: string, reason: string) => Effect.fail(new InvalidRequest({ field, reason }))
