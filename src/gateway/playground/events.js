// Server-sent events over fetch, which unlike EventSource can post, send a key, and be ended.

/** The gateway said no, or the answer broke off. `param` names the field that is wrong, where it is one. */
export class Refused extends Error {
  /**
   * @param {string} message
   * @param {{ status?: number, param?: string | null }} [of]
   */
  constructor(message, { status = 0, param = null } = {}) {
    super(message)
    this.status = status
    this.param = param
  }
}

/** The connection broke off, or there is none: what came by then is right, and the rest may still come. */
class Broken extends Refused {}

/** A stream that breaks off is taken up again so often, with such pauses: a gateway that died needs some time to be there again. */
const ATTEMPTS = 20
const PAUSE_MILLIS = 500

/**
 * The events' objects as they come, until "[DONE]"; each once, however often the connection breaks off.
 * @param {string} path
 * @param {{ body?: object | undefined, key: string, signal: AbortSignal, broken?: () => void }} options
 * @returns {AsyncGenerator<any, void, void>}
 */
export async function* events(path, { body, key, signal, broken }) {
  let last = "" // event's id
  for (let attempt = 0; ; attempt++) {
    try {
      for await (const { id, data } of blocksOf(await ask(path, { body, key, signal, last }))) {
        if (data === "[DONE]") return
        const event = JSON.parse(data)
        if (event.error) throw new Refused(event.error.message, event.error)
        last = id || last
        attempt = 0
        yield event
      }
      throw new Broken("The gateway ended the stream before the answer was complete.")
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof Broken) || last === "" || attempt === ATTEMPTS) throw error
    }
    broken?.()
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MILLIS))
    signal.throwIfAborted()
  }
}

/**
 * @param {string} path
 * @param {{ body: object | undefined, key: string, signal: AbortSignal, last: string }} options
 * @returns {Promise<ReadableStream<Uint8Array<ArrayBuffer>>>}
 */
const ask = async (path, { body, key, signal, last }) => {
  const headers = {
    ...(key === "" ? {} : { authorization: `Bearer ${key}` }),
    ...(body === undefined ? {} : { "content-type": "application/json" }),
    ...(last === "" ? {} : { "last-event-id": last }),
  }
  const what = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) }
  const response = await fetch(path, { ...what, headers, signal }).catch((error) => {
    throw new Broken(`The gateway does not answer (${whyOf(error)}). Is it still running?`)
  })
  if (!response.ok || response.body === null) throw await refusalOf(response)
  return response.body
}

/** @param {unknown} error */
const whyOf = (error) => (error instanceof Error ? error.message : String(error))

/** @param {Response} response */
const refusalOf = async (response) => {
  try {
    const { error } = await response.json()
    return new Refused(error.message, { status: response.status, param: error.param })
  } catch {
    return new Refused(`The gateway answered ${response.status}.`, { status: response.status })
  }
}

/** @param {ReadableStream<Uint8Array<ArrayBuffer>>} stream */
async function* blocksOf(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ""
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw new Broken(`The connection broke off (${whyOf(error)}).`)
    })
    if (done) return
    const blocks = (rest + value).split("\n\n")
    rest = blocks.pop() ?? ""
    for (const block of blocks) {
      const id = fieldOf(block, "id")
      const data = fieldOf(block, "data")
      if (data !== undefined) yield { id, data }
    }
  }
}

/**
 * The other lines are comments, which fill silences, and what only a browser's own reader goes by.
 * @param {string} block @param {string} name
 */
const fieldOf = (block, name) => new RegExp(`^${name}: (.*)$`, "m").exec(block)?.[1]
