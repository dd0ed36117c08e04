// The playground: what the form asks for is generated over /playground/generate and shown as it comes; /playground/state
// tells which models and ranks there are.
import { Answer } from "./answer.js"
import { byId, element } from "./draw.js"
import { Refused } from "./events.js"
import { Form, Invalid } from "./form.js"
import { generate } from "./generation.js"
import { Iterations } from "./iterations.js"
import { watch } from "./state.js"
import { chooseTheme } from "./theme.js"

const form = new Form(byId("form"))
const answer = new Answer(byId("answer"))
const iterations = new Iterations(answer)
const status = byId("status")
const problem = byId("error")
/** @type {HTMLButtonElement} */
const start = byId("generate")
/** @type {HTMLButtonElement} */
const stop = byId("stop")
/** @type {HTMLInputElement} */
const key = byId("key")

/** @type {AbortController | null} */
let running = null
/** @type {Array<import("./form.js").Message>} */
let turns = []

chooseTheme(byId("theme"))
const state = watch({ key: () => key.value, keyWanted, chosen: (metadata) => form.offer(metadata) })
key.addEventListener("change", () => state.again())

/** @param {Event} [event] */
const run = async (event) => {
  event?.preventDefault()
  if (running !== null) return
  problem.hidden = true
  const asking = new AbortController()
  try {
    const request = form.request(turns)
    began(asking)
    const ending = await generate(request, { answer, iterations, status, key: key.value, signal: asking.signal })
    status.textContent = ending
    keepTurn()
  } catch (error) {
    if (asking.signal.aborted) {
      status.textContent = `Stopped after ${answer.length} tokens.`
      keepTurn()
    } else fail(error)
  } finally {
    running = null
    start.disabled = false
    stop.disabled = true
    byId("answer").removeAttribute("aria-busy")
    iterations.end()
  }
}

/** @param {AbortController} asking */
const began = (asking) => {
  running = asking
  start.disabled = true
  stop.disabled = false
  form.clear()
  iterations.begin()
  status.textContent = "Asking."
  byId("answer").setAttribute("aria-busy", "true")
  if (form.chatting) answer.reply(form.prompt)
  else answer.continue(form.prompt)
  show(byId("answer-panel"))
}

/** Where the page is longer than the screen, it goes to what is new. @param {HTMLElement} what */
const show = (what) => what.scrollIntoView({ block: "nearest" })

/** What was said becomes part of the chat. */
const keepTurn = () => {
  if (!form.chatting || answer.length === 0) return
  turns.push({ role: "user", content: form.prompt }, { role: "assistant", content: answer.text })
  form.prompt = ""
}

const clearChat = () => {
  turns = []
  answer.clear()
  byId("prompt").focus()
}

/** @param {unknown} error */
const fail = (error) => {
  const message = error instanceof Error ? error.message : String(error)
  const whom = form.model === "" ? "This" : `${form.model}: this`
  problem.replaceChildren(element("b", {}, [`${whom} did not work`]), message)
  problem.hidden = false
  status.textContent = answer.length === 0 ? "Nothing was generated." : `Broke off after ${answer.length} tokens.`
  if (error instanceof Refused && error.status === 401) keyWanted()
  else if (error instanceof Refused && error.param) form.blame(error.param)
  else if (error instanceof Invalid) form.blame(error.field)
  show(problem)
}

/** The gateway lets no client in without a key. */
function keyWanted() {
  byId("key-field").hidden = false
  byId("key").focus()
}

form.form.addEventListener("submit", run)
stop.addEventListener("click", () => running?.abort())
byId("clear").addEventListener("click", clearChat)
for (const choice of form.form.querySelectorAll("[name=mode]")) {
  choice.addEventListener("change", () => {
    turns = []
    answer.clear()
  })
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running !== null) running.abort()
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) void run(event)
})
