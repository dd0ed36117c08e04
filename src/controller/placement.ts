// Placement: which rank of a replica runs on which host and device. A pure function. Memory is not shared but for a file
// that several ranks of a host map, so it must be there; cores are shared by time, so they only say where it is better.
import type { GroupName } from "../wire/deployment.ts"
import type { HostDevice } from "../wire/host.ts"

/** What one rank needs. */
export interface RankNeed {
  readonly group: GroupName
  readonly rank: number
  readonly model: string // path
  readonly modelBytes: number // of the whole model: ranks of one machine's CPU map a file once
  readonly weights: number // bytes of its shard
  readonly kv: number
  readonly threads: number
  readonly device: string // "auto": a GPU where one has room, else the CPU
  readonly apart?: ReadonlyArray<string> // hosts that it shall not be on, where there is another one: those of what it stands by for
}

/** What one host offers. */
export interface Offer {
  readonly name: string
  readonly cores: number
  readonly threads: number // that ranks of other replicas have there
  readonly memoryFree: number // bytes, for ranks on the CPU
  readonly devices: ReadonlyArray<HostDevice>
  readonly hopMillis: number
  readonly lacks: ReadonlyMap<string, string> // models that are not there, and why
  readonly givenUp: ReadonlyArray<Pick<Placed, "group" | "rank"> & { readonly reason: string }> // ranks that kept ending there
}

export interface Placed {
  readonly group: GroupName
  readonly rank: number
  readonly host: string
  readonly device: string
  readonly bytes: number
}

export type Placement =
  | { readonly _tag: "Placed"; readonly ranks: ReadonlyArray<Placed> }
  | { readonly _tag: "Refused"; readonly reason: string }

/** Rank by rank, the base first; a group stays on one host while that has memory and cores for it. */
export const place = (needs: ReadonlyArray<RankNeed>, offers: ReadonlyArray<Offer>): Placement => {
  if (offers.length === 0) {
    return { _tag: "Refused", reason: "no host has joined. `chorus host --nats URL` on a machine adds it" }
  }
  const hosts = offers.map((offer) => new Desk(offer))
  const ranks: Array<Placed> = []
  for (const need of needs) {
    const tried = hosts.map((desk) => ({ desk, fit: desk.fit(need) }))
    const able = tried.flatMap(({ desk, fit }) => (typeof fit === "string" ? [] : [{ desk, fit }]))
    const [best] = able.sort((a, b) => a.desk.compare(b.desk, need))
    if (best === undefined) {
      const reasons = tried.map(({ desk, fit }) => `${desk.offer.name} ${typeof fit === "string" ? fit : ""}`)
      return { _tag: "Refused", reason: `rank ${need.rank} of ${need.group}: ${reasons.join("; ")}` }
    }
    best.desk.take(need, best.fit)
    ranks.push({ group: need.group, rank: need.rank, host: best.desk.offer.name, ...best.fit })
  }
  return { _tag: "Placed", ranks }
}

interface Fit {
  readonly device: string
  readonly bytes: number
}

/** A host while ranks are put on it. */
class Desk {
  readonly offer: Offer
  readonly #free = new Map<string, number>() // bytes, by device
  readonly #mapped = new Map<string, number>() // bytes of each model that the CPU's ranks map
  readonly #threads = new Map<string, number>() // by group: groups take turns

  constructor(offer: Offer) {
    this.offer = offer
    for (const { name, kind, memoryFree } of offer.devices) {
      this.#free.set(name, kind === "cpu" ? offer.memoryFree : memoryFree)
    }
  }

  /** Where a rank would go on this host, or why it cannot. */
  fit(need: RankNeed): Fit | string {
    const lacking = this.offer.lacks.get(need.model)
    if (lacking !== undefined) return `lacks the model: ${lacking}`
    const before = this.offer.givenUp.find(({ group, rank }) => group === need.group && rank === need.rank)
    if (before !== undefined) return `has given it up lately: ${before.reason}`
    if (need.threads > this.offer.cores) return `has ${this.offer.cores} cores, it wants ${need.threads} threads`
    const devices = this.offer.devices.filter(({ name }) => need.device === "auto" || need.device === name)
    if (devices.length === 0) {
      const has = this.offer.devices.map(({ name }) => name).join(", ") || "none"
      return `has no device ${need.device}; it has ${has}`
    }
    const tried = [...devices].sort((a, b) => this.#rankOfDevice(a) - this.#rankOfDevice(b))
    const fits = tried.map(({ name, kind }) => ({
      device: name,
      bytes: this.#bytes(need, kind),
      free: this.#free.get(name) ?? 0,
    }))
    const fit = fits.find(({ bytes, free }) => bytes <= free)
    if (fit !== undefined) return { device: fit.device, bytes: fit.bytes }
    return fits
      .map(({ device, bytes, free }) => `has ${mebibytes(free)} free on ${device} of the ${mebibytes(bytes)} it needs`)
      .join(" and ")
  }

  take(need: RankNeed, { device, bytes }: Fit): void {
    this.#free.set(device, (this.#free.get(device) ?? 0) - bytes)
    if (this.#kind(device) === "cpu") {
      const mapped = this.#mapped.get(need.model) ?? 0
      this.#mapped.set(need.model, Math.min(need.modelBytes, mapped + need.weights))
    }
    this.#threads.set(need.group, (this.#threads.get(need.group) ?? 0) + need.threads)
  }

  /** Below 0 where this host is the better one for a rank that fits on both. */
  compare(other: Desk, need: RankNeed): number {
    return (
      this.#shunned(need) - other.#shunned(need) ||
      this.#crowding(need) - other.#crowding(need) ||
      Number(other.#threads.size > 0) - Number(this.#threads.size > 0) || // where its peers are: a hop less on the wire
      other.#spare(need) - this.#spare(need) ||
      this.offer.hopMillis - other.offer.hopMillis ||
      (this.offer.name < other.offer.name ? -1 : 1)
    )
  }

  #shunned({ apart = [] }: RankNeed): number {
    return Number(apart.includes(this.offer.name))
  }

  /** Threads beyond the cores. */
  #crowding(need: RankNeed): number {
    return Math.max(0, -this.#spare(need))
  }

  #spare({ group, threads }: RankNeed): number {
    return this.offer.cores - this.offer.threads - (this.#threads.get(group) ?? 0) - threads
  }

  #bytes({ model, modelBytes, weights, kv }: RankNeed, kind: HostDevice["kind"]): number {
    if (kind === "gpu") return weights + kv
    const mapped = this.#mapped.get(model) ?? 0
    return Math.min(weights, modelBytes - mapped) + kv
  }

  /** GPUs first, the emptiest of them. */
  #rankOfDevice({ name, kind }: HostDevice): number {
    return kind === "cpu" ? Number.POSITIVE_INFINITY : -(this.#free.get(name) ?? 0)
  }

  #kind(device: string): HostDevice["kind"] | undefined {
    return this.offer.devices.find(({ name }) => name === device)?.kind
  }
}

const mebibytes = (bytes: number): string => `${Math.ceil(Math.max(0, bytes) / 2 ** 20)} MiB`
