// The answer's text: a span a token, marked by where it came from. A chat's earlier turns stay above it.
import { element } from "./draw.js"

const ORIGINS = { drafted: "drafted and accepted", corrected: "corrected by the base", plain: "plain decoding" }

export class Answer {
  /** @type {Array<HTMLElement>} */
  #tokens = []
  #box
  #current

  /** @param {HTMLElement} box */
  constructor(box) {
    this.#box = box
    this.#current = box
  }

  get text() {
    return this.#tokens.map(({ textContent }) => textContent).join("")
  }

  get length() {
    return this.#tokens.length
  }

  clear() {
    this.#tokens = []
    this.#box.replaceChildren()
  }

  /** A text that is continued. @param {string} prompt */
  continue(prompt) {
    this.clear()
    this.#current = this.#box
    this.#box.append(element("span", { class: "prompt" }, [prompt]))
  }

  /** A chat's next turn. @param {string} message */
  reply(message) {
    this.#tokens = []
    this.#current = element("div", { class: "turn" }, [element("b", {}, ["Assistant"])])
    this.#box.append(element("div", { class: "turn prompt" }, [element("b", {}, ["You"]), message]), this.#current)
    this.#box.scrollTop = this.#box.scrollHeight
  }

  /** @param {{ text: string, origin: keyof typeof ORIGINS }} token */
  add({ text, origin }) {
    const box = this.#box
    const atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 24 // a reader who scrolled up stays there
    const span = element("span", { class: `token ${origin}`, title: ORIGINS[origin] }, [text])
    this.#tokens.push(span)
    this.#current.append(span)
    if (atEnd) box.scrollTop = box.scrollHeight
  }

  /** Frames the tokens of one iteration. @param {number} from @param {number} to */
  frame(from, to) {
    for (const [at, span] of this.#tokens.entries()) span.classList.toggle("of-step", at >= from && at < to)
  }
}
