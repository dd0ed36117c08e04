// node infra/healthcheck.js http://127.0.0.1:8080/healthz | nats://nats:4222[,...]
// Whether a container is well: a gateway answers 200, and an actor that has no port reaches one of its NATS servers. Exits
// with 0 or 1, and says why on stderr.
import { connect } from "node:net"

const MILLIS = 2_500

const gateway = async (url) => {
  const { status } = await fetch(url, { signal: AbortSignal.timeout(MILLIS) })
  if (status !== 200) throw new Error(`${url} answers ${status}`)
}

/** A NATS server speaks first. */
const nats = (url) =>
  new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url)
    const socket = connect({ host: hostname, port: Number(port || 4222), timeout: MILLIS })
    const end = (error) => {
      socket.destroy()
      if (error === undefined) resolve()
      else reject(new Error(`${url}: ${error.message}`))
    }
    socket.setEncoding("utf8")
    socket.once("data", (said) => end(said.startsWith("INFO ") ? undefined : new Error("this is no NATS server")))
    socket.once("timeout", () => end(new Error("no answer")))
    socket.once("error", end)
  })

const target = process.argv[2] ?? ""
const check = target.startsWith("nats:")
  ? Promise.any(target.split(",").map(nats)).catch(({ errors }) => Promise.reject(errors[0]))
  : gateway(target)
await check.catch((error) => {
  process.stderr.write(`${error.message}\n`)
  process.exitCode = 1
})
