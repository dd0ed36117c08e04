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

/**
 * The events' objects as they come, until "[DONE]".
 * @param {string} path
 * @param {{ body?: object | undefined, key: string, signal: AbortSignal }} options
 * @returns {AsyncGenerator<any, void, void>}
 */
export async function* events(path, { body, key, signal }) {
  const response = await ask(path, { body, key, signal })
  if (!response.ok || response.body === null) throw await refusalOf(response)
  for await (const data of dataOf(response.body)) {
    if (data === "[DONE]") return
    const event = JSON.parse(data)
    if (event.error) throw new Refused(event.error.message, event.error)
    yield event
  }
  throw new Refused("The gateway ended the stream before the answer was complete.")
}

/**
 * @param {string} path
 * @param {{ body?: object | undefined, key: string, signal: AbortSignal }} options
 */
const ask = async (path, { body, key, signal }) => {
  const headers = {
    ...(key === "" ? {} : { authorization: `Bearer ${key}` }),
    ...(body === undefined ? {} : { "content-type": "application/json" }),
  }
  const what = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) }
  try {
    return await fetch(path, { ...what, headers, signal })
  } catch (error) {
    signal.throwIfAborted()
    const why = error instanceof Error ? error.message : String(error)
    throw new Refused(`The gateway does not answer (${why}). Is it still running?`)
  }
}

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
async function* dataOf(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ""
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    const blocks = (rest + value).split("\n\n")
    rest = blocks.pop() ?? ""
    for (const block of blocks) {
      if (block.startsWith("data: ")) yield block.slice("data: ".length) // comments fill silences
    }
  }
}
