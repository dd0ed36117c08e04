// A deployment: a named base and draft pair with strategies and limits. It is data: what `chorus deploy` stores, what every
// actor is told of the whole, and what each group of ranks runs.
import { Schema } from "effect"
import { Count, Positive } from "./scalar.ts"

export const Strategy = Schema.Literals(["single", "pipeline", "layer"])
export type Strategy = typeof Strategy.Type

export const GroupName = Schema.Literals(["base", "draft", "prefill"])
export type GroupName = typeof GroupName.Type

/** The ranks that together run one model. */
export const Group = Schema.Struct({
  name: GroupName,
  model: Schema.NonEmptyString, // absolute path of a Hugging Face folder or a GGUF file, on every machine that runs a rank of it
  strategy: Strategy,
  ranks: Positive,
  threads: Positive, // of each rank
  device: Schema.NonEmptyString, // "CPU", "CUDA0"; "auto" takes a GPU where there is one
})
export type Group = typeof Group.Type

/** What the ranks have to know. Another one of these needs other ranks. */
const RanksPart = Schema.Struct({
  name: Schema.NonEmptyString, // see subjects.isName
  base: Group,
  draft: Schema.NullOr(Group), // null: plain decoding only
  prefill: Schema.optionalKey(Group), // the base's model on ranks of their own, which fill prompts in and hand the KV over; of the base's shape
  fuzzy: Positive, // N: how many consecutive layers' attentions run at once; 1 is an exact draft
  deterministic: Schema.Boolean,
  context: Positive, // tokens a session may have, prompt and answer
})

/** What sessions are allowed. Each has a default where it is used. */
export const SessionLimits = Schema.Struct({
  kvTokens: Schema.optionalKey(Positive), // of all sessions together; left out: what the ranks have memory for
  queue: Schema.optionalKey(Count), // requests that may wait, for memory or for ranks to start; more are refused. 256
  clientSessions: Schema.optionalKey(Positive), // that one client may have, waiting ones too; left out: as many as it likes
  keepMillis: Schema.optionalKey(Count), // how long an ended session's KV is kept for sessions that go on from it. 60,000
  retentionMillis: Schema.optionalKey(Positive), // how long a session's tokens can be read; an hour where it is left out
})

/** What a supervisor serves. */
export const Deployment = Schema.Struct({ ...RanksPart.fields, ...SessionLimits.fields })
export type Deployment = typeof Deployment.Type

/** How a deployment comes and goes. A change of these leaves the ranks as they are. */
export const Scaling = Schema.Struct({
  idleTimeoutMillis: Schema.NullOr(Positive), // without sessions for so long, its ranks stop; null: never
  replicas: Schema.Struct({
    min: Count, // ready without a request
    max: Positive,
    sessions: Positive, // running or waiting for each replica: with more, another one is added
  }),
  standby: Schema.optionalKey(Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum: 0, maximum: 1 })))), // processes of each group that take a lost rank's place. 0
})
export type Scaling = typeof Scaling.Type

/** What the bucket `chorus_deployments` holds under the deployment's name, as JSON. */
export const StoredDeployment = Schema.Struct({ ...Deployment.fields, ...Scaling.fields })
export type StoredDeployment = typeof StoredDeployment.Type

export const ALWAYS: Scaling = { idleTimeoutMillis: null, replicas: { min: 1, max: 1, sessions: 8 } }

/** The part that ranks are told. */
export const ranksPart = ({ name, base, draft, prefill, fuzzy, deterministic, context }: Deployment): Deployment => ({
  ...{ name, base, draft, fuzzy, deterministic, context },
  ...(prefill === undefined ? {} : { prefill }),
})

/** The groups of a deployment, the base first. */
export const groupsOf = ({ base, draft, prefill }: Deployment): ReadonlyArray<Group> => [
  base,
  ...(draft === null ? [] : [draft]),
  ...(prefill === undefined ? [] : [prefill]),
]

/** Environment of the actors. Deployment and host are JSON. */
export const ENVIRONMENT = {
  nats: "CHORUS_NATS",
  natsKey: "CHORUS_NATS_KEY", // path of the seed that this process shows
  natsCa: "CHORUS_NATS_CA", // path of the certificate that it trusts
  natsKeys: "CHORUS_NATS_KEYS", // folder that has both, for a process that starts others or has several roles
  deployment: "CHORUS_DEPLOYMENT",
  group: "CHORUS_GROUP",
  rank: "CHORUS_RANK",
  epoch: "CHORUS_EPOCH",
  standby: "CHORUS_STANDBY", // set: the rank is a number behind its group's, and it takes the place of one that is lost
  device: "CHORUS_DEVICE", // of one rank, where it is not its group's
  host: "CHORUS_HOST",
} as const

/** Environment of a gateway, besides CHORUS_NATS. Each has a default. */
export const HTTP_ENVIRONMENT = {
  host: "CHORUS_HTTP_HOST", // 127.0.0.1
  port: "CHORUS_HTTP_PORT", // 8080; 0 takes a free one
  keys: "CHORUS_API_KEYS", // separated by commas; none: every client may ask
  keysFile: "CHORUS_API_KEYS_FILE", // a key a line, or a name and a key
  rateLimit: "CHORUS_HTTP_RATE_LIMIT", // requests a minute of each key; unlimited
  timeout: "CHORUS_HTTP_TIMEOUT", // seconds of a request; 600
  bodyLimit: "CHORUS_HTTP_BODY_LIMIT", // bytes; 1 MiB
  keepAlive: "CHORUS_HTTP_KEEP_ALIVE", // seconds of silence in a stream until it is filled; 15
  corsOrigins: "CHORUS_HTTP_CORS_ORIGINS", // separated by commas; none
  strict: "CHORUS_HTTP_STRICT", // 1 refuses unknown fields; 0
} as const
