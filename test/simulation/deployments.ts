// The deployments of a scenario, as an operator would store them.
import type { StoredDeployment } from "../../src/wire/deployment.ts"
import { CONTEXT, pathOf } from "./actors.ts"
import type { GroupShape, Scenario } from "./scenario.ts"

export const deploymentsOf = (scenario: Scenario): ReadonlyArray<StoredDeployment> => {
  const { replica, replicas, limits, kvTokens, keepMillis, standby, deployments } = scenario
  const group = <Name extends "base" | "draft" | "prefill">(name: Name, { strategy, ranks, model }: GroupShape) => ({
    ...{ name, model: pathOf(model), strategy, ranks, threads: 1, device: "CPU" },
  })
  return Array.from(
    { length: deployments },
    (_, i): StoredDeployment => ({
      name: `d${i}`,
      base: group("base", replica.base),
      draft: replica.draft === null ? null : group("draft", replica.draft),
      ...(replica.prefill === null ? {} : { prefill: group("prefill", replica.prefill) }),
      ...{ fuzzy: replica.fuzzy, deterministic: true, context: CONTEXT, queue: limits.queue, keepMillis },
      kvTokens: Math.max(CONTEXT, Math.min(limits.kvTokens, kvTokens)),
      ...{ idleTimeoutMillis: null, replicas: { min: replicas, max: replicas, sessions: 8 }, standby: standby ? 1 : 0 },
    }),
  )
}
