// Goal: a version goes on with what every release before it has left on the server: a rolling upgrade loses no token.
// Method: what a release had stored when it was killed with sessions under way (test/records) is put into an empty server;
// the processes of this version start on it, and a client reads every session to its end.
import { connect as connectNats } from "@nats-io/transport-node"
import { Effect, Exit, Scope } from "effect"
import { expect, test } from "vitest"
import { natsEnvironment, OPEN } from "../../src/bus/access.ts"
import { VERSION } from "../../src/bus/version.ts"
import { connect } from "../../src/client/index.ts"
import { startActor } from "../../src/host/process.ts"
import { follow } from "../../src/store/logReader.ts"
import { ENVIRONMENT } from "../../src/wire/deployment.ts"
import { subjectsOf } from "../../src/wire/subjects.ts"
import { DEPLOYMENT, load, loggedOf, REQUESTS, recorded, recordedModels, recordingOf } from "../records/recording.ts"
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
  const start = async (name: string, own: Record<string, string>): Promise<void> => {
    const environment = { ...natsEnvironment(server.url, OPEN), ...own }
    const actor = await Effect.runPromise(Scope.provide(startActor({ name, file: `${name}.ts`, environment }), scope))
    await Effect.runPromise(Effect.raceFirst(actor.ready, Effect.flatMap(actor.ended, Effect.fail)))
  }
  try {
    await start("host", { [ENVIRONMENT.host]: JSON.stringify({ name: "b" }) })
    await start("supervisor", {})
    await using client = await connect({ url: server.url, deployment: DEPLOYMENT })
    const read = async (session: string) => (await client.find(session)).ending()
    const endings = await Promise.all(sessions.map(({ session }) => read(session)))
    const tokens = endings.map((ending) => ending.tokens)
    const left = sessions.map(({ session }) => loggedOf(streams, session))
    expect(tokens.map((all, index) => all.slice(0, left[index]?.length))).toEqual(left)
    // Another CPU may choose otherwise at a near tie: how a session goes on is what the same request gives here.
    const undisturbed = await Promise.all(REQUESTS.map(async (request) => (await client.complete(request)).tokens))
    const underWay = tokens.slice(REQUESTS.length)
    const begunAlike = REQUESTS.flatMap((_, index) => {
      const logged = left[REQUESTS.length + index] ?? []
      return String(undisturbed[index]?.slice(0, logged.length)) === String(logged) ? [index] : []
    })
    expect(begunAlike).not.toEqual([])
    expect(begunAlike.map((index) => underWay[index])).toEqual(begunAlike.map((index) => undisturbed[index]))
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
