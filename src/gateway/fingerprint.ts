// system_fingerprint: what decides an answer's bits, beside the request. It comes of what supervisors and ranks say of
// themselves, so every gateway has the same one: the weights, the version of the engine, and the devices whose kernels
// compute. A deployment that is not deterministic depends on how its model is spread over ranks as well.
import { createHash } from "node:crypto"
import { Effect } from "effect"
import { Beats } from "./beats.ts"
import { Deployments } from "./deployments.ts"

/** Null while no rank of the deployment is ready: it is not known yet what will compute. */
export const fingerprintOf = Effect.fnUntraced(function* (deployment: string) {
  const served = yield* (yield* Deployments).served
  const heard = yield* (yield* Beats).ranks
  const metadata = served.find(({ name }) => name === deployment)?.metadata
  const devices = heard
    .filter((rank) => rank.deployment === deployment && rank.group === "base" && rank.state === "ready")
    .map(({ device }) => kernelsOf(device))
  if (metadata?.weights === undefined || devices.length === 0) return null
  const { weights, version, deterministic, base, draft } = metadata
  const spread = deterministic === "true" ? null : { base, draft }
  const decides = { weights, version, kernels: [...new Set(devices)].sort(), spread }
  return `fp_${createHash("sha256").update(JSON.stringify(decides)).digest("hex").slice(0, 16)}`
})

/** "CUDA1 (sm_90)": which of several alike it is decides nothing. */
const kernelsOf = (device: string): string => device.replace(/^([A-Za-z]+)\d+/, "$1")
