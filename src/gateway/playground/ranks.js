// The ranks of a deployment, as their beats tell: state, how busy the device is, sessions and memory.
import { element } from "./draw.js"

/**
 * @typedef {{ deployment: string, group: string, rank: number, ranks: number, state: string, progress: number,
 *   reason: string, strategy: string, shard: string, device: string, bytesOfWeights: number, bytesOfKv: number,
 *   sessions: number, computeMillis: number }} Rank
 */

/** Longer than a pass: what a device has computed is known when a pass is over. */
const WINDOW_MILLIS = 4_000

export class Ranks {
  /** @type {Map<string, ReadonlyArray<{ at: number, computeMillis: number }>>} */
  #known = new Map()
  #list

  /** @param {HTMLElement} list */
  constructor(list) {
    this.#list = list
  }

  /** @param {ReadonlyArray<Rank>} ranks */
  show(ranks) {
    const sorted = [...ranks].sort((a, b) => a.group.localeCompare(b.group) || a.rank - b.rank)
    this.#list.replaceChildren(...sorted.map((rank) => card(rank, this.#loadOf(rank))))
  }

  /** How much of the last seconds the device has computed, from 0 to 1. @param {Rank} rank */
  #loadOf({ deployment, group, rank, computeMillis }) {
    const name = `${deployment}.${group}.${rank}`
    const at = performance.now()
    const known = this.#known.get(name) ?? []
    const restarted = computeMillis < (known.at(-1)?.computeMillis ?? 0)
    const heard = [...(restarted ? [] : known), { at, computeMillis }].filter((beat) => beat.at >= at - WINDOW_MILLIS)
    this.#known.set(name, heard)
    const first = heard[0]
    if (first === undefined || first.at === at) return 0
    return Math.min(1, (computeMillis - first.computeMillis) / (at - first.at))
  }
}

/** @param {Rank} rank @param {number} load */
const card = (rank, load) => {
  const { group, state, strategy, device, shard, sessions, bytesOfWeights, bytesOfKv, progress, reason } = rank
  const percent = `${Math.round(load * 100)}%`
  const condition = state === "loading" ? `loading ${Math.round(progress * 100)}%` : state
  const title = element("h3", {}, [
    `${group} ${rank.rank < rank.ranks ? rank.rank : ""}`,
    element("span", {}, [condition]),
  ])
  const meter = element("meter", {
    min: "0",
    max: "1",
    value: load.toFixed(3),
    "aria-label": `${group} ${rank.rank} computes`,
  })
  return element("li", { class: "rank", "data-state": state }, [
    title,
    element("div", { class: "load" }, [meter, element("span", {}, [percent])]),
    element("p", {}, [`${counted(sessions, "session")} · KV ${bytes(bytesOfKv)} · weights ${bytes(bytesOfWeights)}`]),
    element("p", {}, [reason === "" ? [strategy, device, shard].filter(Boolean).join(" · ") : reason]),
  ])
}

/** @param {number} count @param {string} noun */
const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`

/** @param {number} count */
const bytes = (count) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"]
  const power = count < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(count) / 10))
  const value = count / 1024 ** power
  return `${value < 10 && power > 0 ? value.toFixed(1) : Math.round(value)} ${units[power]}`
}
