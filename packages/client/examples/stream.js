// node stream.js [SERVERS] [DEPLOYMENT]: an answer as it comes, and what it took.
import { connect } from "@chorus/client"

const [servers = "nats://127.0.0.1:4222", deployment = "demo"] = process.argv.slice(2)
const chorus = await connect({ servers, deployment })
const answer = chorus.generate({ prompt: "export class Queue<T> {\n", maxTokens: 24, seed: 7 })
for await (const text of answer.text) process.stdout.write(text)
const { finishReason, stats, text } = await answer
console.log(`\n${finishReason}: ${stats.tokens} tokens, ${text.length} characters`)
await chorus.close()
