// Where a command generates: ranks of its own, or a deployment that runs already.
import { Effect, Option } from "effect"
import { Nats } from "../fabric/nats.ts"
import { type LocalCluster as Local, start } from "../supervisor/localCluster.ts"
import type { Deployment } from "../wire/deployment.ts"
import { census } from "./census.ts"
import { CommandFailed, UsageError } from "./errors.ts"
import type { Progress } from "./progress.ts"
import { folderOf, running } from "./runtimeState.ts"

export interface Cluster {
  readonly url: string
  readonly deployment: string // its name
}

export interface LocalCluster extends Cluster, Omit<Local, "url"> {}

export interface LocalOptions {
  readonly nats: Option.Option<string>
  readonly progress: Progress
  readonly gateway?: Readonly<Record<string, string>> // its environment; left out: no HTTP
}

/** Ranks of one's own, until the scope closes. */
export const localCluster = (deployment: Deployment, { nats, ...options }: LocalOptions) =>
  start(deployment, { nats: Option.getOrNull(nats), ...options }).pipe(
    Effect.map((local): LocalCluster => ({ ...local, deployment: deployment.name })),
  )

/** The deployment that a server has; none where it has none. Several are for the user to tell apart. */
export const deploymentAt = (url: string) =>
  Effect.gen(function* () {
    const { services } = yield* census
    const names = [
      ...new Set(services.filter(({ name }) => name === "chorus-infer").map(({ deployment }) => deployment)),
    ]
    const [only, ...others] = names
    if (others.length > 0) {
      return yield* new UsageError({ reason: `${url} has ${names.join(", ")}: say which with --name` })
    }
    return only === undefined ? undefined : ({ url, deployment: only } satisfies Cluster)
  }).pipe(Effect.provide(Nats.layer({ url, name: "chorus generate" })))

/** A deployment that `chorus up` runs on this machine. */
export const runningNamed = Effect.fnUntraced(function* (name: string) {
  const here = running(folderOf(process.env))
  const entry = here.find((entry) => entry.name === name)
  if (entry !== undefined) return { url: entry.nats, deployment: name } satisfies Cluster
  const known = here.length === 0 ? "nothing runs here" : `here runs ${here.map((entry) => entry.name).join(", ")}`
  const reason = `no deployment ${name}: ${known}. \`chorus up --name ${name}\` starts one, --nats names another server.`
  return yield* new CommandFailed({ reason })
})
