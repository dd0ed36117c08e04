// A simulated reader: follows a session's log over connections that break and a log that loses its tail, leaves it and comes
// back, and has the product's position in it.
import { Effect } from "effect"
import { Position } from "../../src/client/position.ts"
import { isRewritten } from "../../src/store/logReader.ts"
import type { Logged } from "../../src/store/tokenLog.ts"
import type { FinishReason, LoggedToken, PromptToken } from "../../src/wire/infer.ts"
import type { Ledger } from "./ledger.ts"
import type { Mutation } from "./mutation.ts"
import type { Network } from "./network.ts"
import type { Process } from "./world.ts"

export interface Reader {
  readonly session: string
  readonly tokens: ReadonlyArray<LoggedToken>
  readonly prompt: ReadonlyArray<PromptToken>
  readonly end: { readonly finishReason: FinishReason; readonly error: string } | null
  readonly expired: boolean
}

export interface ReaderOptions {
  readonly process: Process
  readonly network: Network
  readonly ledger: Ledger
  readonly subject: string // of the log
  readonly session: string
  readonly mutation: Mutation | null
}

const LOOK_MILLIS = 60
const QUIET_MILLIS = 5_000

export const startReader = ({ process, network, ledger, subject, session, mutation }: ReaderOptions): Reader => {
  const { random } = process.world
  const tokens: Array<LoggedToken> = []
  const prompt: Array<PromptToken> = []
  const reader = { session, tokens, prompt, end: null as Reader["end"], expired: false }
  let position = new Position(0)
  let newest: Logged | null = null
  let heardAt = 0

  const take = (logged: Logged): "on" | "again" | "over" => {
    newest = logged
    heardAt = process.world.now
    const { entry } = logged
    const taken = position.take(entry)
    const naive = mutation === "readers take every entry as new"
    if (naive && entry._tag === "Tokens") tokens.push(...entry.tokens)
    else if (taken._tag === "Tokens") tokens.push(...taken.tokens)
    if (taken._tag === "Prompt") prompt.push(...taken.tokens)
    if (taken._tag === "End") reader.end = taken.end
    if (taken._tag === "Expired") reader.expired = true
    if (taken._tag === "Gap") newest = null
    return taken._tag === "Tokens" || taken._tag === "Prompt" ? "on" : taken._tag === "Gap" ? "again" : "over"
  }

  const ask = <A>(serve: () => A) => network.call(process, serve, () => 0)
  const look = Effect.gen(function* () {
    if (process.world.now - heardAt > QUIET_MILLIS) {
      const last = yield* ask(() => ledger.last(subject))
      if (last !== null && isRewritten(last, newest)) newest = null
      heardAt = process.world.now
    }
    const entries = yield* ask(() => ledger.read(subject, newest?.sequence ?? 0))
    for (const logged of entries) {
      const next = take(logged)
      if (next === "over") return true
      if (next === "again") break
    }
    if (random.chance(0.01)) {
      // A reader that has gone and come back: with what it has, and without a place in the log.
      position = new Position(tokens.length)
      prompt.length = 0
      newest = null
    }
    return false
  })
  const again = (): void => {
    process.fork(look, (exit) => {
      if (exit._tag === "Success" && exit.value) return
      process.after(LOOK_MILLIS, again)
    })
  }
  again()
  return reader
}
