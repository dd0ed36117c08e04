// What is served, and by which ranks: a stream that is opened again when it ends, for a gateway may be restarted.
import { byId, element } from "./draw.js"
import { events, Refused } from "./events.js"
import { Ranks } from "./ranks.js"

const AGAIN_MILLIS = 1_000

/** @param {{ key: () => string, keyWanted: () => void, chosen: (metadata: Record<string, string>) => void }} options */
export const watch = ({ key, keyWanted, chosen }) => {
  const connection = byId("connection")
  /** @type {HTMLSelectElement} */
  const select = byId("model")
  const ranks = new Ranks(byId("ranks"))
  let reading = new AbortController()

  /** @param {{ models: ReadonlyArray<{ name: string, metadata: Record<string, string> }>, ranks: ReadonlyArray<import("./ranks.js").Rank> }} state */
  const show = (state) => {
    connection.dataset.state = "live"
    connection.textContent = "connected"
    offer(select, state.models)
    const model = state.models.find(({ name }) => name === select.value)
    if (model !== undefined) chosen(model.metadata)
    const mine = state.ranks.filter(({ deployment }) => deployment === select.value)
    ranks.show(mine)
    byId("ranks-now").textContent = mine.length === 0 ? "none is heard" : `${mine.length} of ${select.value}`
  }

  const read = async () => {
    for await (const state of events("/playground/state", { key: key(), signal: reading.signal })) show(state)
  }

  const lost = async (/** @type {unknown} */ error) => {
    connection.dataset.state = "lost"
    connection.textContent = "not connected"
    ranks.show([])
    if (!(error instanceof Refused && error.status === 401)) return pause(AGAIN_MILLIS)
    keyWanted()
    await new Promise((given) => reading.signal.addEventListener("abort", given, { once: true }))
  }

  const follow = async () => {
    for (;;) {
      await read().catch((error) => (reading.signal.aborted ? undefined : lost(error)))
      if (reading.signal.aborted) reading = new AbortController()
    }
  }
  void follow()
  return { again: () => reading.abort() }
}

/** @param {number} millis */
const pause = (millis) => new Promise((over) => setTimeout(over, millis))

/** Keeps what was chosen. @param {HTMLSelectElement} select @param {ReadonlyArray<{ name: string }>} models */
const offer = (select, models) => {
  const names = models.map(({ name }) => name)
  if (names.join() === [...select.options].map(({ value }) => value).join()) return
  const chosen = select.value
  select.replaceChildren(...names.map((name) => element("option", { value: name }, [name])))
  if (names.includes(chosen)) select.value = chosen
}
