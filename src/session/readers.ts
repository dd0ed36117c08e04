// A client that knows a session's name may read its log, and the names cannot be asked for: readers reach JetStream only
// through a supervisor. It only introduces them; JetStream sends the log to their inbox by itself.
import { Effect } from "effect"
import { Bus, type Message, settled } from "../bus/bus.ts"
import { isRecorded } from "../durable/store.ts"
import { executionOf } from "../generation/generate.ts"
import { Storage } from "../store/storage.ts"
import { edgeOfLog } from "../store/tokenLog.ts"
import { codec } from "../wire/codec.ts"
import { StorageRefused } from "../wire/errors.ts"
import { ReadAnswer, ReadRequest } from "../wire/read.ts"
import { isInbox, isName, placeOfLog, subjectsOf, TOKEN_STREAM } from "../wire/subjects.ts"

const requests = codec("read request", ReadRequest, { mostBytes: 1024 })
const answers = codec("read answer", ReadAnswer)

const QUEUE = "readers"

/** Answers the readers of a deployment, "*" for all of them, until the scope closes. */
export const serveReaders = Effect.fnUntraced(function* (deployment: string) {
  const bus = yield* Bus
  const runFork = Effect.runForkWith(yield* Effect.context<Storage>())
  const answer = (message: Message) =>
    answerTo(message).pipe(
      Effect.catch((error) =>
        Effect.succeed<ReadAnswer>({
          ...{ _tag: "NotRead", reason: error.message },
          ...(error instanceof StorageRefused ? { refused: error } : {}),
        }),
      ),
      Effect.map((answer) => bus.respond(message, withinLimit(answer, bus.maxPayload()))),
    )
  yield* bus.subscribe(
    subjectsOf(deployment).read,
    (message) => {
      if (isInbox(message.reply ?? "")) runFork(answer(message))
    },
    { queue: QUEUE },
  )
  yield* settled(bus) // a client that is told of a session from now on can read it
})

const answerTo = Effect.fnUntraced(function* ({
  subject,
  data,
}: Message): Effect.fn.Return<ReadAnswer, { readonly message: string }, Storage> {
  const storage = yield* Storage
  const { deployment } = placeOfLog(subject)
  const request = yield* Effect.fromResult(requests.decode(data))
  if (!isName(deployment)) return { _tag: "NotRead", reason: `${deployment} is no name of a deployment` }
  const log = subjectsOf(deployment).tokens(request.session)
  if (request._tag === "Look") {
    const edges = { first: edgeOfLog(storage, log, "first"), last: edgeOfLog(storage, log, "last") }
    const { first, last } = yield* Effect.all(edges, { concurrency: "unbounded" })
    if (last?.entry._tag === "End") return { _tag: "Looked", first, last }
    return { _tag: "Looked", first, last, running: yield* isRunning(storage, deployment, request.session) }
  }
  yield* storage.send(TOKEN_STREAM, log, request.after, request.to)
  return { _tag: "Following" }
})

/** Two entries of a log may be more than a message may have. */
const withinLimit = (answer: ReadAnswer, limit: number): Uint8Array =>
  answers.encodeWithin(limit, answer, (bytes) => {
    const reason = `two entries of a log have ${bytes} bytes, max_payload of nats-server is ${limit}. Raise it`
    return { _tag: "NotRead", reason, refused: new StorageRefused({ storage: TOKEN_STREAM, reason, tooLarge: true }) }
  })

/** Whether a supervisor goes on with a session, or will; where the records cannot be read, it is taken to be so. */
const isRunning = (storage: Storage["Service"], deployment: string, session: string): Effect.Effect<boolean> =>
  Effect.catch(isRecorded(storage, deployment, executionOf(session)), () => Effect.succeed(true))
