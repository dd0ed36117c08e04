// One generation, from the request to its last token.
import { events } from "./events.js"

/**
 * Ends with a sentence about how it went.
 * @param {object} request
 * @param {{ answer: import("./answer.js").Answer, iterations: import("./iterations.js").Iterations, status: HTMLElement,
 *   key: string, signal: AbortSignal }} options
 */
export const generate = async (request, { answer, iterations, status, key, signal }) => {
  let settings = ""
  let ending = ""
  let broke = false
  const broken = () => {
    broke = true
    status.textContent = "The connection broke off. Trying again."
  }
  for await (const event of events("/playground/generate", { body: request, key, signal, broken })) {
    switch (event._tag) {
      case "Accepted":
        settings = settingsOf(event)
        status.textContent = `Reading ${event.promptTokens} tokens of prompt.`
        break
      case "Token":
        if (answer.length === 0 || broke) status.textContent = "Generating."
        broke = false
        answer.add(event)
        iterations.token(event)
        break
      case "Iteration":
        iterations.add(event)
        break
      case "End":
        ending = endingOf(event, settings)
        iterations.stats(event.stats)
        break
    }
  }
  return ending
}

const HOW = {
  stop: "The model ended it",
  length: "As many tokens as asked for",
  deadline: "The time was over",
  cancelled: "Cancelled",
}

/** What it is sampled with, as far as it is on. @param {{ sampling: Record<string, number> | null, seed: string }} accepted */
const settingsOf = ({ sampling, seed }) => {
  const { temperature, topP = 1, topK = 0 } = sampling ?? {}
  return [
    ...(temperature === undefined ? [] : [`temperature ${temperature}`]),
    ...(topP === 1 ? [] : [`top-p ${topP}`]),
    ...(topK === 0 ? [] : [`top-k ${topK}`]),
    `seed ${seed}`,
  ].join(", ")
}

/** @param {{ finishReason: keyof typeof HOW, stats: any }} end @param {string} settings */
const endingOf = ({ finishReason, stats }, settings) => {
  const { tokens, promptTokens, millis, tokensPerSecond, firstTokenMillis } = stats
  const times = `${(millis / 1000).toFixed(2)} s, the first after ${Math.round(firstTokenMillis)} ms`
  const speed = `${tokensPerSecond.toFixed(1)} tokens/s`
  return `${HOW[finishReason]}: ${tokens} tokens after ${promptTokens} of prompt in ${times}; ${speed}; ${settings}.`
}
