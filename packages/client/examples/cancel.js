// node cancel.js [SERVERS] [DEPLOYMENT]: the ways to end an answer before its time.
import { connect } from "@chorus/client"

const [servers = "nats://127.0.0.1:4222", deployment = "demo"] = process.argv.slice(2)
const chorus = await connect({ servers, deployment })
const request = { prompt: "export class", maxTokens: 400, ignoreEos: true }

// A signal: the promise and the iteration reject with its reason, as fetch does.
const controller = new AbortController()
const aborted = chorus.generate(request, { signal: controller.signal })
await aborted.session
controller.abort()
console.log(await aborted.then(null, ({ name }) => name))

// cancel(): the answer is what there is.
const cancelled = chorus.generate(request)
await cancelled.session
cancelled.cancel()
console.log((await cancelled).finishReason)

// Leaving the loop: likewise.
const left = chorus.generate(request)
for await (const _ of left) break
console.log((await left).finishReason)
await chorus.close()
