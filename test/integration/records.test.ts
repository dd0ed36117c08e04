// Goal: a version goes on with what every release before it has left on the server: a rolling upgrade loses no token.
// Method: what a release had stored when it was killed with sessions under way (test/records) is put into an empty server;
// the processes of this version start on it, and a client reads every session to its end.
import { connect as connectNats } from "@nats-io/transport-node"
import { Effect, Exit, Scope } from "effect"
import { expect, test } from "vitest"
import { natsEnvironment, OPEN } from "../../src/bus/access.ts"
import { VERSION } from "../../src/bus/version.ts"
import { connect } from "../../src/client/index.ts"
import { startServing } from "../../src/host/process.ts"
import { follow } from "../../src/store/logReader.ts"
import { ENVIRONMENT } from "../../src/wire/deployment.ts"
import { subjectsOf } from "../../src/wire/subjects.ts"
import {
  DEPLOYMENT,
  load,
  loggedOf,
  REQUESTS,
  recorded,
  recordedModels,
  recordingOf,
  TOKENS,
} from "../records/recording.ts"
import { Server } from "./rankGroup.ts"

test("there is a recording of this version", () => {
  expect(recorded()).toContain(VERSION)
})

test.each(recorded())("sessions that %s has left end with the same tokens", async (version) => {
  const { sessions, streams } = recordingOf(version)
  recordedModels()
  await using server = await Server.start()
  const connection = await connectNats({ servers: server.url })
  await load(connection, streams)
  await connection.close()
  const scope = Scope.makeUnsafe()
  const start = (name: string, own: Record<string, string>) => {
    const environment = { ...natsEnvironment(server.url, OPEN), ...own }
    return Effect.runPromise(Scope.provide(startServing({ name, file: `${name}.ts`, environment }), scope))
  }
  try {
    await start("host", { [ENVIRONMENT.host]: JSON.stringify({ name: "b" }) })
    await start("supervisor", {})
    await using client = await connect({ url: server.url, deployment: DEPLOYMENT })
    const read = async (session: string) => (await client.find(session)).ending()
    const endings = await Promise.all(sessions.map(({ session }) => read(session)))
    const tokens = endings.map((ending) => ending.tokens)
    const whole = tokens.slice(0, REQUESTS.length)
    expect(whole).toEqual(sessions.slice(0, REQUESTS.length).map((session) => session.tokens))
    // Another CPU may choose otherwise at a near tie: how a session goes on is what the same request gives here.
    const undisturbed = await Promise.all(REQUESTS.map(async (request) => (await client.complete(request)).tokens))
    const wentOn = tokens.slice(REQUESTS.length).map((all, index) => {
      const logged = loggedOf(streams, sessions[REQUESTS.length + index]?.session ?? "")
      const [left, rest] = [all.slice(0, logged.length), all.slice(logged.length)]
      expect(left).toEqual(logged)
      expect(all).toHaveLength(TOKENS)
      const beganAlike = String(undisturbed[index]?.slice(0, logged.length)) === String(logged)
      if (beganAlike) expect(rest).toEqual(undisturbed[index]?.slice(logged.length))
      return beganAlike
    })
    expect(wentOn).toContain(true)
    expect(endings.map(({ finishReason, error }) => [finishReason, error])).toEqual(sessions.map(() => ["length", ""]))
    for (const { session, ended } of sessions) {
      const epochs: Array<number> = []
      for await (const { entry } of follow(client.connection, subjectsOf(DEPLOYMENT).tokens(session)))
        epochs.push(entry.epoch)
      expect(epochs.at(-1)).toBe(ended ? 1 : 2) // those under way have another owner
    }
  } finally {
    await Effect.runPromise(Scope.close(scope, Exit.void))
  }
})
