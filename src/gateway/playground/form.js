// The form: what it asks for, which of its parts are of use, and what is wrong with it.

/** A field has no value that could be asked for. */
export class Invalid extends Error {
  /** @param {string} field @param {string} message */
  constructor(field, message) {
    super(message)
    this.field = field
  }
}

/** @typedef {{ role: string, content: string }} Message */

/** What the page asks for where nothing was chosen. */
const DRAFTS = "tree"

export class Form {
  /** What was chosen for a deployment that drafts; null where the one that is shown does. @type {string | null} */
  #chosen = null

  /** @param {HTMLFormElement} form */
  constructor(form) {
    this.form = form
    form.addEventListener("change", () => this.#adapt())
    form.addEventListener("input", () => this.clear())
    this.#adapt()
  }

  get chatting() {
    return this.#value("mode") === "chat"
  }

  get prompt() {
    return this.#value("prompt")
  }

  set prompt(text) {
    const field = this.#field("prompt")
    if (field !== null) field.value = text
  }

  get model() {
    return this.#value("model")
  }

  /** Offers what the chosen deployment can do, as its supervisor says. @param {Record<string, string>} metadata */
  offer({ draft, chat, sampling }) {
    this.#offerDrafts(draft !== "none")
    this.#offerChat(chat === "true")
    this.#showDefaults(sampling)
  }

  /** What the model's files want holds where nothing is said, and shows there. @param {string | undefined} sampling as JSON */
  #showDefaults(sampling = "{}") {
    const { temperature = 0, topP = 1, topK = 0 } = JSON.parse(sampling)
    for (const [name, value] of Object.entries({ temperature, top_p: topP, top_k: topK })) {
      const field = this.#field(name)
      if (field !== null) field.placeholder = String(value)
    }
  }

  /** @param {boolean} drafts */
  #offerDrafts(drafts) {
    const field = this.#field("speculation")
    if (field === null || field.disabled === !drafts) return
    field.disabled = !drafts
    if (!drafts) this.#chosen = field.value
    field.value = drafts ? (this.#chosen ?? DRAFTS) : "none"
    this.#say("speculation-note", drafts ? "" : "no draft model")
    this.#adapt()
  }

  /** @param {boolean} chats */
  #offerChat(chats) {
    const [chat, text] = ["chat", "plain"].map((mode) => this.form.querySelector(`[name=mode][value=${mode}]`))
    if (!(chat instanceof HTMLInputElement && text instanceof HTMLInputElement) || chat.disabled === !chats) return
    chat.disabled = !chats
    if (chat.checked && !chats) text.click() // as a user does it, so that every listener hears it
    this.#say("mode-note", chats ? "" : "no chat template")
  }

  /** @param {string} id @param {string} words */
  #say(id, words) {
    const note = document.getElementById(id)
    if (note !== null) note.textContent = words
  }

  /** What to send. Throws Invalid. @param {ReadonlyArray<Message>} turns of the chat so far */
  request(turns) {
    this.#check()
    const system = this.#value("system").trim()
    /** @type {ReadonlyArray<Message>} */
    const before = system === "" ? [] : [{ role: "system", content: system }]
    const what = this.chatting
      ? { messages: [...before, ...turns, { role: "user", content: this.prompt }] }
      : { prompt: this.prompt }
    const seed = this.#value("seed").trim()
    const fuzzy = this.#value("fuzzy")
    const speculation = this.#value("speculation")
    return {
      ...{ model: this.#value("model"), ...what },
      ...this.#given("temperature"),
      ...this.#given("top_p"),
      ...this.#given("top_k"),
      max_tokens: this.#number("max_tokens"),
      ...(seed === "" ? {} : { seed }),
      speculation: speculation === "tree" ? this.#tree() : speculation,
      ...(fuzzy === "" || speculation === "none" ? {} : { fuzzy: Number(fuzzy) }),
    }
  }

  /** Marks a field as wrong and gives it the focus; the page stays where the reason stands. @param {string} name */
  blame(name) {
    const field = this.#field(name.replace(/[.[].*$/s, ""))
    field?.setAttribute("aria-invalid", "true")
    field?.focus({ preventScroll: true })
  }

  clear() {
    for (const field of this.form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid")
  }

  #tree() {
    return { depth: this.#number("depth"), width: this.#number("width"), nodes: this.#number("nodes") }
  }

  #check() {
    if (this.#value("model") === "") throw new Invalid("model", "No model is served. `chorus up` starts one.")
    for (const field of this.form.elements) {
      if (!(field instanceof HTMLInputElement || field instanceof HTMLTextAreaElement)) continue
      if (field.offsetParent === null || field.disabled || field.validity.valid) continue // what is not shown is not asked for
      const label = field.labels?.[0]?.textContent?.trim().replaceAll(/\s+/g, " ") ?? field.name
      throw new Invalid(field.name, `${label}: ${field.validationMessage}`)
    }
  }

  #adapt() {
    this.form.dataset.mode = this.#value("mode")
    this.form.dataset.speculation = this.#value("speculation")
    const label = document.getElementById("prompt-label")
    if (label !== null) label.textContent = this.chatting ? "Message" : "Prompt"
  }

  /** @param {string} name */
  #value(name) {
    if (name === "speculation" && this.#field(name)?.disabled) return "none" // the form leaves disabled fields out
    return String(new FormData(this.form).get(name) ?? "")
  }

  /** Left out where nothing is said. @param {string} name */
  #given(name) {
    return this.#value(name) === "" ? {} : { [name]: this.#number(name) }
  }

  /** @param {string} name */
  #number(name) {
    return Number(this.#value(name))
  }

  /** @param {string} name @returns {HTMLInputElement | null} */
  #field(name) {
    const field = this.form.elements.namedItem(name)
    return field instanceof HTMLElement ? /** @type {HTMLInputElement} */ (field) : null
  }
}
