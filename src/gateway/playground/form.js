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

export class Form {
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
      ...{ temperature: this.#number("temperature"), top_p: this.#number("top_p"), top_k: this.#number("top_k") },
      max_tokens: this.#number("max_tokens"),
      ...(seed === "" ? {} : { seed }),
      speculation: speculation === "tree" ? this.#tree() : speculation,
      ...(fuzzy === "" || speculation === "none" ? {} : { fuzzy: Number(fuzzy) }),
    }
  }

  /** Marks a field as wrong and goes there. @param {string} name */
  blame(name) {
    const field = this.#field(name.replace(/[.[].*$/s, ""))
    field?.setAttribute("aria-invalid", "true")
    field?.focus()
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
      if (field.offsetParent === null || field.validity.valid) continue // what is not shown is not asked for
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
    return String(new FormData(this.form).get(name) ?? "")
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
