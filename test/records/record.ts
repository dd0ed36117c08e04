// node bin/node24.js test/records/record.ts
// Records what this version leaves on a NATS server when it is killed with sessions under way, into test/records/VERSION.
// Once a release: every later version has to go on from there.
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { VERSION } from "../../src/bus/version.ts"
import { Fleet, kill, storedOf } from "../integration/serverless.ts"
import { DEPLOYMENT, dump, REQUESTS, type RecordedSession, type Recording, recordedModels } from "./recording.ts"

const BEGUN = 12 // tokens: far from the end

await using fleet = await Fleet.start({ hosts: [{ name: "a" }] })
const replicas = { min: 1, max: 1, sessions: 8 }
await fleet.deploy(storedOf({ name: DEPLOYMENT, context: 1024, ...recordedModels() }, { replicas, kvTokens: 8192 }))
const client = await fleet.client(DEPLOYMENT)

const ended: Array<RecordedSession> = []
for (const request of REQUESTS) {
  const { session, tokens } = await client.complete(request)
  ended.push({ session, ended: true, tokens })
}
const begun = await Promise.all(
  REQUESTS.map(async (request, index) => {
    const generation = await client.generate(request)
    const tokens = generation[Symbol.asyncIterator]()
    for (let count = 0; count < BEGUN; count++) await tokens.next()
    await tokens.return?.()
    return { session: generation.session, ended: false, tokens: ended[index]?.tokens ?? [] }
  }),
)
kill(fleet.supervisors[0]?.actor.pid)
kill(fleet.hosts.get("a")?.actor.pid)

const streams = await dump(client.connection)
const recording: Recording = { version: VERSION, streams, sessions: [...ended, ...begun] }
const folder = join(import.meta.dirname, VERSION)
mkdirSync(folder, { recursive: true })
writeFileSync(join(folder, "streams.json"), `${JSON.stringify(recording, null, 1)}\n`)
const count = streams.reduce((sum, { messages }) => sum + messages.length, 0)
process.stdout.write(`${count} messages of ${streams.length} streams are in test/records/${VERSION}\n`)
