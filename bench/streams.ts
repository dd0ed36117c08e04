// Many users at a time: streams that are asked for one after the other (closed loop) or as chance will have it (open loop),
// and what their readers see of them within a window of time.
import { setTimeout as sleep } from "node:timers/promises"
import type { Client } from "../src/client/index.ts"
import type { InferRequest } from "../src/wire/infer.ts"
import { quantile } from "./statistics.ts"

/** What readers saw within the window. */
export interface Seen {
  readonly millis: number // of the window
  readonly tokens: number
  readonly first: ReadonlyArray<number> // millis from a request to its first token
  readonly pauses: ReadonlyArray<number> // millis between tokens that did not come together
  readonly refused: number
}

export interface Window {
  readonly warmUpMillis: number
  readonly millis: number
}

/** Tokens that come within this time of one another came in one message. */
const TOGETHER_MILLIS = 0.5

class Observation {
  readonly #from: number
  readonly #to: number
  readonly #first: Array<number> = []
  readonly #pauses: Array<number> = []
  #tokens = 0
  refused = 0

  constructor({ warmUpMillis, millis }: Window) {
    this.#from = performance.now() + warmUpMillis
    this.#to = this.#from + millis
  }

  get over(): boolean {
    return performance.now() >= this.#to
  }

  /** The token that came now, to a stream that was asked for at `asked` and whose last token came at `last`. */
  token(asked: number, last: number | null): number {
    const now = performance.now()
    if (now < this.#from || now >= this.#to) return now
    this.#tokens += 1
    if (last === null) this.#first.push(now - asked)
    else if (now - last > TOGETHER_MILLIS) this.#pauses.push(now - last)
    return now
  }

  read(): Seen {
    const millis = this.#to - this.#from
    return { millis, tokens: this.#tokens, first: this.#first, pauses: this.#pauses, refused: this.refused }
  }
}

/** One request of the load: the n-th. */
export type RequestOf = (n: number) => InferRequest

/** `streams` readers, each of which asks again when its answer is whole. */
export const closedLoop = async (
  client: Client,
  streams: number,
  requestOf: RequestOf,
  window: Window,
): Promise<Seen> => {
  const observation = new Observation(window)
  let n = 0
  const stop = new AbortController()
  const reader = async () => {
    while (!observation.over) await read(client, requestOf(n++), observation, stop.signal)
  }
  const ending = sleep(window.warmUpMillis + window.millis).then(() => stop.abort())
  await Promise.all([ending, ...Array.from({ length: streams }, reader)])
  return observation.read()
}

/** Requests come by themselves, `perSecond` on average, whether or not the ones before are answered. */
export const openLoop = async (
  client: Client,
  perSecond: number,
  requestOf: RequestOf,
  window: Window,
): Promise<Seen> => {
  const observation = new Observation(window)
  const stop = new AbortController()
  const chance = mulberry(17)
  const readers: Array<Promise<void>> = []
  let next = performance.now()
  for (let n = 0; !observation.over; n++) {
    readers.push(read(client, requestOf(n), observation, stop.signal))
    next += (-Math.log(1 - chance()) * 1000) / perSecond // Poisson
    const wait = next - performance.now()
    if (wait > 0) await sleep(wait)
  }
  stop.abort()
  await Promise.all(readers)
  return observation.read()
}

const read = async (client: Client, request: InferRequest, observation: Observation, signal: AbortSignal) => {
  const asked = performance.now()
  let last: number | null = null
  try {
    for await (const _ of await client.generate(request, { signal })) last = observation.token(asked, last)
  } catch (error) {
    if (!signal.aborted) {
      observation.refused += 1
      await sleep(20)
    }
    if (!(error instanceof Error)) throw error
  }
}

/** A small generator of chance with a seed. */
export const mulberry = (seed: number) => {
  let state = seed
  return (): number => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

export const perSecond = ({ tokens, millis }: Pick<Seen, "tokens" | "millis">): number => (tokens * 1000) / millis

/** Median, 95th and 99th percentile. */
export const percentiles = (values: ReadonlyArray<number>): readonly [number, number, number] => [
  quantile(values, 0.5),
  quantile(values, 0.95),
  quantile(values, 0.99),
]
