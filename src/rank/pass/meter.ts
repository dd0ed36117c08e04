// What a pass costs, as its leader sees it: read once, or once for each of its parts.
import type { Exchange } from "../../group/exchange.ts"
import type { PassCost } from "../../wire/pass.ts"

export interface Meter {
  readonly computed: (micros: number) => void
  /** The cost since the last reading, or since the beginning. */
  readonly read: () => PassCost
}

export const meter = (exchange: Exchange): Meter => {
  let micros = 0
  let from = { at: performance.now(), ...exchange.traffic, micros }
  return {
    computed: (more) => {
      micros += more
    },
    read: () => {
      const to = { at: performance.now(), ...exchange.traffic, micros }
      const cost = {
        millis: to.at - from.at,
        computeMillis: (to.micros - from.micros) / 1000,
        hops: to.hops - from.hops,
        messages: to.messages - from.messages,
        bytes: to.bytes - from.bytes,
      }
      from = to
      return cost
    },
  }
}
