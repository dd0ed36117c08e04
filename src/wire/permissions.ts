// Which role may publish and hear what on NATS. Each role has what its work needs and no more; nats-server enforces it, and
// test/integration/permissions.test.ts tries every act of docs/NATS.md as every role.
import { SUPERVISORS, TOKEN_STREAM } from "./subjects.ts"

export const ROLES = ["supervisor", "host", "rank", "gateway", "operator", "client"] as const
export type Role = (typeof ROLES)[number]

/** A user of the server: a role, and what it is narrowed to. */
export interface User {
  readonly role: Role
  readonly publicKey: string
  readonly deployment: string | null // of a rank; null: of each that no other user is for
}

export interface Permissions {
  readonly publish: ReadonlyArray<string>
  readonly neverPublish: ReadonlyArray<string>
  readonly subscribe: ReadonlyArray<string>
  readonly neverSubscribe: ReadonlyArray<string>
  /** May answer any request, each this many times. The server keeps each for minutes: for roles that are seldom asked. */
  readonly answers: number | null
}

/** Answers to a user come to an inbox that only that user may listen to. */
export const inboxPrefixOf = (publicKey: string): string => `_INBOX.${publicKey}`
const inboxOf = ({ publicKey }: Pick<User, "publicKey">): string => `${inboxPrefixOf(publicKey)}.>`

/**
 * What JetStream is asked for a stream: to make it where it is not there, to read it. Not to delete anything, nor to change
 * its settings: a stream may be told to copy another one.
 */
const streamApi = (stream: string): ReadonlyArray<string> => [
  ...["INFO", "CREATE"].map((act) => `$JS.API.STREAM.${act}.${stream}`),
  `$JS.API.CONSUMER.CREATE.${stream}.>`,
  ...["INFO", "DELETE"].map((act) => `$JS.API.CONSUMER.${act}.${stream}.*`),
  `$JS.API.CONSUMER.MSG.NEXT.${stream}.*`,
  `$JS.API.DIRECT.GET.${stream}`,
  `$JS.API.DIRECT.GET.${stream}.>`,
  `$JS.API.STREAM.MSG.GET.${stream}`,
]
const bucketApi = (bucket: string): ReadonlyArray<string> => streamApi(`KV_${bucket}`)
const bucketWrite = (bucket: string): string => `$KV.${bucket}.>`

/** What only supervisors write: what runs where, which processes are alive, which sessions there are. */
const STATE_BUCKETS = ["chorus_replicas", "chorus_leases", "chorus_executions", "chorus_executions_results"]

/** What operators want: the deployments, and which hosts are to drain. */
const DEPLOYMENTS = "chorus_deployments"
const DRAINS = "chorus_drains"

/** A service hears requests for all, for its name and for itself. Verb by verb: a user that may subscribe to a.* may to a.> as well. */
const asService = (name: string): ReadonlyArray<string> =>
  ["PING", "INFO", "STATS"].flatMap((verb) => [`$SRV.${verb}`, `$SRV.${verb}.${name}`, `$SRV.${verb}.${name}.*`])

/** To ask, to read what one knows the name of, to end it. */
const ASKING = [
  "chorus.v1.*.infer",
  "chorus.v1.*.read",
  "chorus.v1.*.ctl.cancel.*",
  "chorus.v1.*.ctl.interest.*",
  SUPERVISORS,
]

const nothing: Permissions = { publish: [], neverPublish: [], subscribe: [], neverSubscribe: [], answers: null }

/** `all` are the server's users: which of them a role answers, and which deployments have ranks of their own. */
export const permissionsOf = (user: User, all: ReadonlyArray<User>): Permissions => {
  const own = inboxOf(user)
  const inboxesOf = (...roles: ReadonlyArray<Role>) => all.filter(({ role }) => roles.includes(role)).map(inboxOf)
  switch (user.role) {
    case "supervisor":
      return {
        ...nothing,
        publish: [
          ...["tokens.*", "progress.*", "trace.*", "demand", "kept", "beat.supervisor.*"].map(
            (what) => `chorus.v1.*.${what}`,
          ),
          ...["*.pass", "*.ctl", "*.roll", "formation"].map((what) => `chorus.v1.*.group.*.${what}`),
          ...["chorus.v1.@host", "chorus.v1.@host.*.ctl"],
          "_INBOX.>", // answers; names of inboxes cannot be guessed
          "$JS.API.INFO",
          ...[...streamApi(TOKEN_STREAM), `$JS.API.STREAM.UPDATE.${TOKEN_STREAM}`], // its retention
          ...bucketApi(DEPLOYMENTS),
          ...STATE_BUCKETS.flatMap((bucket) => [...bucketApi(bucket), bucketWrite(bucket)]),
          "$JS.FC.>",
        ],
        subscribe: [
          ...["infer", "read", "ctl.cancel.*", "ctl.interest.*", "demand", "kept", "beat.>"].map(
            (what) => `chorus.v1.*.${what}`,
          ),
          "chorus.v1.@host.*.beat",
          ...asService("chorus-infer"),
          own,
        ],
      }
    case "host":
      return {
        ...nothing,
        publish: [
          ...["chorus.v1.@host.*.beat", "chorus.v1.@host.*.taken", SUPERVISORS],
          ...["$JS.API.INFO", ...bucketApi(DRAINS), "$JS.FC.>"],
        ],
        subscribe: [
          "chorus.v1.@host",
          "chorus.v1.@host.*.ctl",
          "chorus.v1.@host.*.taken",
          ...asService("chorus-host"),
          own,
        ],
        answers: 16,
      }
    case "rank": {
      const deployment = user.deployment ?? "*"
      const named = all.flatMap(({ deployment }) => (deployment === null ? [] : [deployment]))
      const others = user.deployment === null ? named.map((name) => `chorus.v1.${name}.>`) : []
      const group = `chorus.v1.${deployment}.group.*.*`
      return {
        ...nothing,
        publish: [
          ...[
            `${group}.act`,
            `${group}.rank.*.act`,
            `${group}.kv`,
            `${group}.kv.*`,
            `chorus.v1.${deployment}.beat.*.*.*`,
          ],
          ...inboxesOf("supervisor", "operator"), // its askers; they ask too often for the server to keep count
          own,
        ],
        neverPublish: others,
        subscribe: [`${group}.>`, `chorus.v1.${deployment}.group.*.formation`, ...asService("chorus-rank"), own],
        neverSubscribe: others,
      }
    }
    case "gateway":
      return {
        ...nothing,
        publish: ASKING,
        subscribe: ["chorus.v1.*.beat.>", "chorus.v1.*.trace.*", "chorus.v1.*.progress.*", own],
      }
    case "operator":
      return {
        ...nothing,
        publish: [
          ...ASKING,
          "$SRV.>",
          ...["chorus.v1.@host", "chorus.v1.@host.*.ctl", "chorus.v1.*.group.*.*.roll"],
          "$JS.API.INFO",
          ...[DEPLOYMENTS, DRAINS].flatMap((bucket) => [...bucketApi(bucket), bucketWrite(bucket)]),
          ...bucketApi("chorus_replicas"),
          "$JS.FC.>",
        ],
        subscribe: [
          ...["beat.>", "demand", "trace.*", "progress.*"].map((what) => `chorus.v1.*.${what}`),
          "chorus.v1.@host.*.beat",
          own,
        ],
      }
    case "client":
      return { ...nothing, publish: ASKING, subscribe: [own] }
  }
}
