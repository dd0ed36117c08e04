// One client through all that it is tried for: first what it does by itself, then, together with all others, what takes a
// deployment that is busy.
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import type { Client } from "../../src/client/index.ts"
import { ABILITIES } from "./abilities.ts"
import { type Answer, Driver } from "./driver.ts"
import type { Asked, Expected } from "./expected.ts"
import { type EnvironmentName, type Installed, VLLM } from "./installation.ts"
import { Relay } from "./relay.ts"
import type { Candidate } from "./roster.ts"
import { HELD, type Server } from "./server.ts"

/** Whether an ability holds; where it does not, why. An ability that the client does not have is not among the outcomes. */
export type Outcomes = Map<string, string | null>

export interface Trial extends AsyncDisposable {
  readonly name: string
  readonly version: string
  readonly outcomes: Outcomes
  readonly driver: Driver
  readonly relay: Relay
}

/** A client that could not be brought, or does not start. */
export interface Absent {
  readonly name: string
  readonly absent: string
}

interface Scene {
  readonly server: Server
  readonly asked: Omit<Asked, "url">
  readonly environments: ReadonlyMap<EnvironmentName, Installed>
}

export const startTrial = async (
  { name, environment, driver: file }: Candidate,
  { server, asked, environments }: Scene,
  number: number,
): Promise<Trial | Absent> => {
  const installed = environments.get(environment) ?? { missing: "unknown" }
  if ("missing" in installed) return { name, absent: installed.missing }
  const relay = await Relay.open(server.http)
  const folder = join(server.folder, `${number}`)
  mkdirSync(folder)
  try {
    const told = { ...asked, url: `${relay.url}/v1`, folder, vllm: VLLM }
    const driver = await Driver.start(installed.program, file, told)
    const close = async () => {
      await driver[Symbol.asyncDispose]()
      await relay[Symbol.asyncDispose]()
    }
    return { name, version: driver.version, outcomes: new Map(), driver, relay, [Symbol.asyncDispose]: close }
  } catch (error) {
    await relay[Symbol.asyncDispose]()
    return { name, absent: error instanceof Error ? error.message : String(error) }
  }
}

/** Everything but what takes a busy deployment. */
export const tryAlone = async ({ driver, outcomes }: Trial, expected: Expected): Promise<void> => {
  for (const { name, holds } of ABILITIES) {
    if (driver.abilities.has(name)) outcomes.set(name, judged(await driver.ask(name), holds, expected))
  }
}

type Holds = (typeof ABILITIES)[number]["holds"]

export const judged = (answer: Answer, holds: Holds, expected: Expected): string | null =>
  "error" in answer ? answer.error.trim() : holds(answer.facts, expected)

const CANCELLED_WITHIN_MILLIS = 30_000

/** The client begins to read a stream and goes away: its session has to end as cancelled. */
export const tryHangUp = async ({ driver, relay, outcomes }: Trial, client: Client): Promise<void> => {
  relay.forget()
  const answer = await driver.ask("hang-up")
  if ("error" in answer) return void outcomes.set("hang-up", answer.error.trim())
  const { session } = relay
  if (session === null) return void outcomes.set("hang-up", "no session was seen")
  const signal = AbortSignal.timeout(CANCELLED_WITHIN_MILLIS)
  const ending = client.of(HELD).stream(session, { signal }).ending()
  outcomes.set(
    "hang-up",
    await ending.then(
      ({ finishReason }) => (finishReason === "cancelled" ? null : `the session ended with ${finishReason}`),
      (error) => `the session was not cancelled: ${error}`,
    ),
  )
}
