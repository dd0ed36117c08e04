// llama.cpp by way of node-llama-cpp, in a process of its own with its own ggml; llamaCpp.ts asks it in turn with us.
// Plain JavaScript, so that the sources can be checked without this peer being installed.
import { getLlama } from "node-llama-cpp"
import { parallel } from "./parallel.js"

let model
let sequence
let context
let sizes

const commands = {
  async load({ path, threads, context: contextSize }) {
    const llama = await getLlama({ gpu: false, build: "never", logLevel: "error", maxThreads: threads })
    model = await llama.loadModel({ modelPath: path })
    sizes = { contextSize, threads, batchSize: 512 }
    context = await model.createContext(sizes)
    sequence = context.getSequence()
    return { version: llama.llamaCppRelease.release, system: llama.systemInfo }
  },
  /** Milliseconds of each of `count` passes over the tokens. */
  async prefill({ tokens, count }) {
    const millis = []
    while (millis.length < count) {
      await sequence.clearHistory()
      const begun = performance.now()
      await sequence.evaluateWithoutGeneratingNewTokens(tokens)
      millis.push(performance.now() - begun)
    }
    return { millis }
  },
  /** Milliseconds of each of `count` greedy steps after the tokens. */
  async decode({ tokens, count }) {
    await sequence.clearHistory()
    await sequence.evaluateWithoutGeneratingNewTokens(tokens.slice(0, -1))
    const millis = []
    let begun = performance.now()
    for await (const _ of sequence.evaluate(tokens.slice(-1), { temperature: 0, yieldEogToken: true })) {
      millis.push(performance.now() - begun)
      if (millis.length === count) break
      begun = performance.now()
    }
    return { millis }
  },
  /** Many sequences at a time, evaluated in batches. */
  async parallel(load) {
    await context.dispose()
    context = await model.createContext({ ...sizes, sequences: load.streams })
    return await parallel(context, load)
  },
}

process.on("message", async ({ command, ...options }) => {
  try {
    process.send({ result: await commands[command](options) })
  } catch (error) {
    process.send({ error: String(error?.stack ?? error) })
  }
})
process.on("disconnect", () => process.exit(0))
