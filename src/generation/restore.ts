// A generation from its log: a new one has nothing but its prompt; one that goes on has the tokens there, and what follows
// from them. The owner that goes on writes an entry first: from then on nothing that a former owner sends is taken, since it
// says that it comes after another entry (Kleppmann's fencing token, held by the log).
import { Effect } from "effect"
import type { Tokenizer } from "../model/index.ts"
import { TokenLog } from "../store/tokenLog.ts"
import { SessionExpired } from "../wire/errors.ts"
import { OwnerChanged } from "./errors.ts"
import { beginningOf, type History, historyOf, standingOf } from "./history.ts"
import { Journal } from "./journal.ts"
import { type GenerateRequest, kvOf } from "./request.ts"
import { Admitted } from "./services.ts"
import type { Unplaced } from "./state.ts"
import { Tally } from "./stats.ts"

/** The history as the owner of this epoch may go on from it. */
export const recover = Effect.fnUntraced(function* (request: GenerateRequest, epoch: number) {
  const { session } = request
  const log = yield* TokenLog
  const read = historyOf(yield* log.read(session))
  if (read === null) return yield* new SessionExpired({ session })
  // The stream was lost, and made again: its readers find it as it began.
  const history =
    read.last > 0 ? read : { ...read, epoch: 1, last: yield* log.append(session, beginningOf(request), 0) }
  const standing = standingOf(history, epoch)
  if (standing._tag === "Fenced") return yield* new OwnerChanged({ session })
  if (standing._tag === "Ours") return history
  return { ...history, last: yield* log.append(session, standing.entry, history.last) }
})

/** What a run of a generation begins with. */
export interface Start {
  readonly history: History
  readonly epoch: number
  readonly ended: number // runs before it whose end the log did not take
}

export const restore = Effect.fnUntraced(function* (
  request: GenerateRequest,
  tokenizer: Tokenizer,
  { history, epoch, ended }: Start,
) {
  const { running } = yield* Admitted
  const tally = new Tally(request.prompt.length)
  tally.goneOn(history.tokens.length)
  let activities = 0
  const generation: Unplaced = {
    run: {
      request,
      epoch,
      kv: kvOf(request.session, epoch, ended),
      tokenizer,
      tally,
      running,
      name: (kind) => `${kind}/${activities++}`,
      scope: yield* Effect.scope,
    },
    journal: new Journal(request, tokenizer, history),
  }
  return generation
})
