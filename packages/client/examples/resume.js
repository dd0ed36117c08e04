// node resume.js [SERVERS] [DEPLOYMENT]: an answer that one connection leaves, and another one reads to its end.
import { connect } from "@chorus/client"

const [servers = "nats://127.0.0.1:4222", deployment = "demo"] = process.argv.slice(2)
const first = await connect({ servers, deployment })
const { id } = await first.generate({ prompt: "export class", maxTokens: 24, seed: 7 }).session
await first.close() // the session goes on: nobody has cancelled it

const second = await connect({ servers, deployment })
let position = 0
for await (const token of second.resume(id)) {
  position = token.position + 1
  if (position === 8) break // leaves the reading, and not the session
}
const rest = await second.resume(id, { from: position })
const whole = await second.resume(id)
console.log(`${whole.tokens.length} tokens, the last ${rest.tokens.length} read by themselves`)
console.log(whole.text.endsWith(rest.text) && whole.tokens.slice(position).join() === rest.tokens.join())
await second.close()
