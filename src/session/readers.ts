// Whoever knows a session's name may read its log, and nobody can ask for the names: readers have no way to JetStream but
// over a supervisor. It only introduces them; JetStream sends the log to their inbox by itself.
import { randomUUID } from "node:crypto"
import { AckPolicy, DeliverPolicy, type JetStreamManager, jetstreamManager } from "@nats-io/jetstream"
import { type Msg, type NatsConnection, nanos } from "@nats-io/transport-node"
import { Effect, Result } from "effect"
import { Nats } from "../bus/nats.ts"
import { isRecorded } from "../durable/store.ts"
import { executionOf } from "../generation/generate.ts"
import { refusalOf } from "../store/refusal.ts"
import { entryAt } from "../store/tokenLog.ts"
import { codec } from "../wire/codec.ts"
import { StorageRefused } from "../wire/errors.ts"
import { ReadAnswer, ReadRequest } from "../wire/read.ts"
import { isInbox, isName, placeOfLog, subjectsOf, TOKEN_STREAM } from "../wire/subjects.ts"

const requests = codec("read request", ReadRequest, { mostBytes: 1024 })
const answers = codec("read answer", ReadAnswer)

const QUEUE = "readers"

/** Of a reader whose inbox nobody listens to any more. */
const LEFT_MILLIS = 1_000

/** Answers the readers of a deployment, "*" for all of them, until the scope closes. */
export const serveReaders = Effect.fnUntraced(function* (deployment: string) {
  const { connection } = yield* Nats
  const manager = yield* Effect.promise(() => jetstreamManager(connection, { checkAPI: false }))
  const answer = async (message: Msg): Promise<void> => {
    const answer = await answerTo(connection, manager, message).catch((error: unknown): ReadAnswer => {
      const refused = refusalOf(TOKEN_STREAM, error)
      const reason = error instanceof Error ? error.message : `${error}`
      return { _tag: "NotRead", reason, ...(refused === null ? {} : { refused }) }
    })
    if (!connection.isClosed()) message.respond(withinLimit(answer, connection.info?.max_payload))
  }
  yield* Effect.acquireRelease(
    Effect.sync(() =>
      connection.subscribe(subjectsOf(deployment).read, {
        queue: QUEUE,
        callback: (error, message) => {
          if (error === null && isInbox(message.reply ?? "")) void answer(message)
        },
      }),
    ),
    (subscription) => Effect.sync(() => subscription.unsubscribe()),
  )
  yield* Effect.promise(() => connection.flush()) // who is told of a session from now on can read it
})

const answerTo = async (
  connection: NatsConnection,
  manager: JetStreamManager,
  { subject, data }: Msg,
): Promise<ReadAnswer> => {
  const { deployment } = placeOfLog(subject)
  const request = Result.getOrThrow(requests.decode(data))
  if (!isName(deployment)) throw new Error(`${deployment} is no name of a deployment`)
  const log = subjectsOf(deployment).tokens(request.session)
  if (request._tag === "Look") {
    const [first, last] = await Promise.all([entryAt(manager, log, "first"), entryAt(manager, log, "last")])
    if (last?.entry._tag === "End") return { _tag: "Looked", first, last }
    return { _tag: "Looked", first, last, running: await isRunning(connection, deployment, request.session) }
  }
  await manager.consumers.add(TOKEN_STREAM, {
    ...{ name: randomUUID(), filter_subject: log, deliver_subject: request.to, ack_policy: AckPolicy.None },
    ...{ inactive_threshold: nanos(LEFT_MILLIS), mem_storage: true, num_replicas: 1 },
    ...(request.after === 0
      ? { deliver_policy: DeliverPolicy.All }
      : { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: request.after + 1 }),
  })
  return { _tag: "Following" }
}

/** Two entries of a log may be more than a message may have. */
const withinLimit = (answer: ReadAnswer, limit = Number.POSITIVE_INFINITY): Uint8Array => {
  const bytes = answers.encode(answer)
  if (bytes.byteLength <= limit) return bytes
  const reason = `two entries of a log have ${bytes.byteLength} bytes, max_payload of nats-server is ${limit}. Raise it`
  const refused = new StorageRefused({ storage: TOKEN_STREAM, reason, tooLarge: true })
  return answers.encode({ _tag: "NotRead", reason, refused })
}

/** Whether somebody goes on with a session, or will; where the records cannot be read, it is taken to be so. */
const isRunning = async (connection: NatsConnection, deployment: string, session: string): Promise<boolean> => {
  const id = await Effect.runPromise(executionOf(session))
  return isRecorded(connection, deployment, id).catch(() => true)
}
