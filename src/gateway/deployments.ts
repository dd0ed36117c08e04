// What is served: the models of a gateway are the deployments whose supervisors answer on its NATS server. They are asked
// every now and then, and at once when a request wants a model that is not known yet.
import { Context, Effect, Layer, Option, Schema } from "effect"
import { Bus } from "../bus/bus.ts"
import { type Client, connect } from "../client/index.ts"
import { type ApiError, apiError, fromClient } from "./errors.ts"
import { Options } from "./options.ts"

export interface ServedModel {
  readonly name: string // of the deployment
  readonly created: number // when it was first seen here, in milliseconds since 1970
  readonly seen: number // last, by performance's clock
  readonly metadata: Readonly<Record<string, string>>
}

const ASK_MILLIS = 2_000

/** Every supervisor that is there has answered by then. */
const ANSWER_MILLIS = 250

/** A deployment that has not answered for this long is no longer listed. */
const FRESH_MILLIS = 3 * ASK_MILLIS

/** A deployment that has not answered for this long is no longer known: 404, and no longer 503. */
const REMEMBERED_MILLIS = 600_000

/** An answer to $SRV.INFO, the parts that are used: github.com/nats-io/nats-architecture-and-design, ADR-32. */
const Info = Schema.fromJsonString(
  Schema.Struct({
    metadata: Schema.StructWithRest(Schema.Struct({ deployment: Schema.NonEmptyString }), [
      Schema.Record(Schema.String, Schema.String),
    ]),
  }),
)
const decode = Schema.decodeUnknownOption(Info)

export class Deployments extends Context.Service<
  Deployments,
  {
    /** A client of the deployment. Fails where none of that name is known. */
    readonly client: (name: string) => Effect.Effect<Client, ApiError>
    /** Those that answer now. */
    readonly served: Effect.Effect<ReadonlyArray<ServedModel>>
  }
>()("chorus/gateway/Deployments") {
  static readonly layer = Layer.effect(
    this,
    Effect.suspend(() => open()),
  )
}

const open = Effect.fnUntraced(function* () {
  const { url } = yield* Options
  const known = new Map<string, ServedModel>()
  const { ask, heard } = yield* roll((name, metadata) => {
    const created = known.get(name)?.created ?? Date.now()
    known.set(name, { name, created, seen: performance.now(), metadata })
  })
  const forget = Effect.sync(() => {
    for (const { name, seen } of known.values()) if (performance.now() - seen > REMEMBERED_MILLIS) known.delete(name)
  })
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(forget, Effect.andThen(ask, Effect.sleep(ASK_MILLIS)))))
  // A request for a model that is not there waits with the others for one round of answers.
  const round = yield* Effect.cachedWithTTL(Effect.andThen(ask, Effect.sleep(ANSWER_MILLIS)), ANSWER_MILLIS)
  const appears = (name: string) => Effect.raceFirst(round, heard(name))
  const clients = yield* connections(url)
  return Deployments.of({
    client: Effect.fnUntraced(function* (name) {
      if (!known.has(name)) yield* appears(name)
      if (known.has(name)) return yield* clients(name)
      const names = [...known.keys()].join(", ")
      const reason = `there is no model ${name.slice(0, 64)} here. ${names === "" ? "`chorus up` starts one." : `There is ${names}.`}`
      return yield* apiError(404, "model_not_found", reason, { param: "model" })
    }),
    served: Effect.sync(() =>
      [...known.values()]
        .filter(({ seen }) => performance.now() - seen < FRESH_MILLIS)
        .sort((a, b) => (a.name < b.name ? -1 : 1)),
    ),
  })
})

/** Asks all supervisors for their deployments, and hears the answers as they come. */
const roll = Effect.fnUntraced(function* (hear: (name: string, metadata: Readonly<Record<string, string>>) => void) {
  const { publish, subscribe, inbox: ownInbox } = yield* Bus
  const inbox = ownInbox()
  const waiting = new Map<string, Set<() => void>>()
  yield* subscribe(inbox, ({ data }) => {
    const info = decode(new TextDecoder().decode(data))
    if (Option.isNone(info)) return // no answer
    const { metadata } = info.value
    hear(metadata.deployment, metadata)
    for (const tell of waiting.get(metadata.deployment) ?? []) tell()
  })
  const heard = (name: string): Effect.Effect<void> =>
    Effect.callback<void>((resume) => {
      const tell = () => resume(Effect.void)
      const those = waiting.get(name) ?? new Set()
      waiting.set(name, those.add(tell))
      return Effect.sync(() => {
        those.delete(tell)
        if (those.size === 0) waiting.delete(name)
      })
    })
  const ask = Effect.sync(() => publish("$SRV.INFO.chorus-infer", undefined, inbox))
  return { ask, heard }
})

/** Clients of all deployments over one connection, which is dialled with the first and closed with the scope. */
const connections = Effect.fnUntraced(function* (url: string) {
  const dialled: { client?: Promise<Client> } = {}
  yield* Effect.addFinalizer(() => Effect.promise(async () => (await dialled.client?.catch(() => undefined))?.close()))
  const dial = (deployment: string): Promise<Client> => {
    const dialling = connect({ url, deployment, role: "gateway" })
    dialling.catch(() => delete dialled.client) // the next request tries again
    dialled.client = dialling
    return dialling
  }
  return (name: string): Effect.Effect<Client, ApiError> =>
    Effect.tryPromise({ try: async () => (await (dialled.client ?? dial(name))).of(name), catch: fromClient })
})
