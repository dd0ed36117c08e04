// What a generation's iterations show: the draft tree of the newest one, or of the one that the slider is on, and two
// charts over all of them. Drawn at most once a frame, however fast they come.
import { drawAccepted, drawSpeed } from "./charts.js"
import { byId, element } from "./draw.js"
import { drawTree } from "./tree.js"

/** The speed is that of the last tokens: of a span of time, or of a number of them where they come slowly or in bursts. */
const WINDOW_MILLIS = 500
const WINDOW_TOKENS = 24
const SAMPLE_MILLIS = 250

/** @typedef {import("./tree.js").Iteration} Iteration */

export class Iterations {
  /** @type {Array<Iteration>} */
  #iterations = []
  /** @type {Array<number>} */
  #arrivals = []
  /** @type {Array<{ seconds: number, rate: number }>} */
  #speeds = []
  #started = 0
  #plain = 0
  #following = true
  #planned = false
  #timer = 0
  #ended = false
  /** @type {HTMLInputElement} */
  #slider = byId("step")
  #answer

  /** @param {import("./answer.js").Answer} answer */
  constructor(answer) {
    this.#answer = answer
    this.#slider.addEventListener("input", () => {
      this.#following = this.#slider.value === this.#slider.max
      this.#plan()
    })
    addEventListener("resize", () => this.#plan())
    this.#draw()
  }

  begin() {
    this.#iterations = []
    this.#arrivals = []
    this.#speeds = []
    this.#plain = 0
    this.#following = true
    this.#ended = false
    this.#started = performance.now()
    this.#timer = setInterval(() => this.#measure(), SAMPLE_MILLIS)
    byId("speed-now").replaceChildren("–")
    this.#plan()
  }

  end() {
    this.#ended = true
    clearInterval(this.#timer)
    this.#measure()
    this.#plan()
  }

  /** @param {Iteration} iteration */
  add(iteration) {
    this.#iterations.push(iteration)
    this.#plan()
  }

  /** @param {{ origin: string }} token */
  token({ origin }) {
    this.#arrivals.push(performance.now())
    if (origin === "plain") this.#plain++
    this.#plan()
  }

  /** @param {{ tokensPerSecond: number }} stats */
  stats({ tokensPerSecond }) {
    byId("speed-now").replaceChildren(element("b", {}, [tokensPerSecond.toFixed(1)]), " of the whole answer")
  }

  #measure() {
    const now = performance.now()
    const first = this.#arrivals[0]
    if (first === undefined) return
    const lately = Math.min(now - WINDOW_MILLIS, this.#arrivals.at(-WINDOW_TOKENS) ?? first)
    const since = Math.max(first, lately)
    const recent = this.#arrivals.filter((at) => at > since).length
    const rate = (recent * 1000) / Math.max(now - since, SAMPLE_MILLIS)
    this.#speeds.push({ seconds: (now - this.#started) / 1000, rate })
    if (!this.#ended) byId("speed-now").replaceChildren(element("b", {}, [rate.toFixed(0)]), " now")
    this.#plan()
  }

  #plan() {
    if (this.#planned) return
    this.#planned = true
    requestAnimationFrame(() => {
      this.#planned = false
      this.#draw()
    })
  }

  #draw() {
    const count = this.#iterations.length
    this.#slider.disabled = count === 0
    this.#slider.max = `${Math.max(1, count)}`
    if (this.#following) this.#slider.value = this.#slider.max
    this.#drawTree(this.#iterations[Number(this.#slider.value) - 1])
    const lengths = this.#iterations.map(({ path }) => path.length)
    drawAccepted(byId("accepted"), lengths)
    const mean = lengths.reduce((sum, length) => sum + length, 0) / count
    byId("accepted-now").replaceChildren(
      ...(count === 0 ? ["–"] : [element("b", {}, [`${lengths.at(-1)}`]), ` now, ${mean.toFixed(2)} on average`]),
    )
    drawSpeed(byId("speed"), this.#speeds)
  }

  /** @param {Iteration | undefined} iteration */
  #drawTree(iteration) {
    const label = byId("step-label")
    if (iteration === undefined) {
      const plain = this.#plain > 0
      label.textContent = plain ? "nothing drafted" : "no iteration yet"
      const words = plain
        ? "These tokens were decoded one by one. The adaptive control drafts only where it pays; a tree of a fixed shape always drafts."
        : "Each iteration, the draft model proposes a tree of tokens, and the base model verifies it in one pass. It grows here."
      byId("tree").replaceChildren(element("p", { class: "empty" }, [words]))
      this.#answer.frame(0, 0)
      return
    }
    const { at, path, tokens, millis } = iteration
    const which = `${this.#slider.value} of ${this.#iterations.length}`
    label.textContent = `iteration ${which}: ${path.length} of ${tokens.length} accepted, ${millis.toFixed(0)} ms`
    byId("tree").replaceChildren(drawTree(iteration))
    this.#answer.frame(at, at + path.length + 1)
  }
}
