// node errors.js [SERVERS] [DEPLOYMENT]: every error is a class, and one of a request names the field.
import { connect, Disconnected, InvalidRequest, isChorusError, NotServed } from "@chorus/client"

const [servers = "nats://127.0.0.1:4222", deployment = "demo"] = process.argv.slice(2)
const chorus = await connect({ servers, deployment })

const told = async (answer) => {
  try {
    await answer
  } catch (error) {
    if (error instanceof InvalidRequest) return `${error.field}: ${error.reason}`
    if (error instanceof NotServed) return `nobody serves ${error.deployment}`
    if (isChorusError(error)) return `${error._tag}: ${error.message}`
    throw error
  }
}

console.log(await told(chorus.generate({ prompt: "a", temperature: -1 })))
console.log(await told(chorus.generate({ prompt: "a", maxTokns: 8 })))
console.log(await told(chorus.generate({ prompt: "a", deployment: "nobody" })))
await chorus.close()

const nowhere = await connect({ servers: "nats://127.0.0.1:1" }).catch((error) => error)
console.log(nowhere instanceof Disconnected)
