// A whole deployment of this machine, as `chorus up` starts it, for as long as a test needs it.
import { join } from "node:path"
import { Effect, Exit, Scope } from "effect"
import { type Client, connect, type Ending } from "../../src/client/index.ts"
import { type LocalCluster, start } from "../../src/supervisor/localCluster.ts"
import type { Deployment, Group } from "../../src/wire/deployment.ts"
import type { InferRequest } from "../../src/wire/infer.ts"

const ROOT = join(import.meta.dirname, "../..")

export const DEMO = { base: join(ROOT, "models/demo/base"), draft: join(ROOT, "models/demo/draft") }

export interface ClusterOptions {
  readonly name?: string
  readonly base?: string // paths
  readonly draft?: string | null
  readonly baseRanks?: number
  readonly draftRanks?: number
  readonly fuzzy?: number
  readonly context?: number
  readonly deterministic?: boolean
  readonly limits?: Pick<Deployment, "kvTokens" | "queue" | "clientSessions" | "keepMillis">
  readonly nats?: string // URL; a server of its own by default
  readonly gateway?: Readonly<Record<string, string>> // its environment; no HTTP by default
}

export const deploymentOf = (options: ClusterOptions): Deployment => {
  const { draft = DEMO.draft, baseRanks = 1, draftRanks = 2 } = options
  return {
    name: options.name ?? "test",
    base: groupOf("base", options.base ?? DEMO.base, baseRanks),
    draft: draft === null ? null : groupOf("draft", draft, draftRanks),
    fuzzy: options.fuzzy ?? 4,
    deterministic: options.deterministic ?? true,
    context: options.context ?? 512,
    ...{ keepMillis: 0, ...options.limits }, // KV that is kept would hide KV that is lost
  }
}

const groupOf = (name: Group["name"], model: string, ranks: number): Group => ({
  ...{ name, model, ranks, threads: 1, device: "CPU" },
  strategy: ranks === 1 ? "single" : name === "base" ? "pipeline" : "layer",
})

export class Cluster implements AsyncDisposable {
  readonly local: LocalCluster
  readonly client: Client
  readonly #scope: Scope.Closeable

  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    const scope = Scope.makeUnsafe()
    const deployment = deploymentOf(options)
    const { nats = null, gateway } = options
    const silent = { report: () => {} }
    const starting = start(deployment, { nats, progress: silent, ...(gateway === undefined ? {} : { gateway }) })
    try {
      const local = await Effect.runPromise(Scope.provide(starting, scope))
      return new Cluster(local, await connect({ url: local.url, deployment: deployment.name }), scope)
    } catch (error) {
      await Effect.runPromise(Scope.close(scope, Exit.void))
      throw error
    }
  }

  private constructor(local: LocalCluster, client: Client, scope: Scope.Closeable) {
    this.local = local
    this.client = client
    this.#scope = scope
  }

  async generate(request: InferRequest): Promise<Ending> {
    const generation = await this.client.generate(request)
    return generation.ending()
  }

  async [Symbol.asyncDispose]() {
    await this.client.close()
    await Effect.runPromise(Scope.close(this.#scope, Exit.void))
  }
}
