// Whoever knows a session's name may read its log, and nobody can ask for the names: readers have no way to JetStream but
// over a supervisor. It only introduces them; JetStream sends the log to their inbox by itself.
import { randomUUID } from "node:crypto"
import { AckPolicy, DeliverPolicy, type JetStreamManager, jetstreamManager } from "@nats-io/jetstream"
import { type Msg, nanos } from "@nats-io/transport-node"
import { Effect, Result } from "effect"
import { Nats } from "../bus/nats.ts"
import { entryAt } from "../store/tokenLog.ts"
import { codec } from "../wire/codec.ts"
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
    const answer = await answerTo(manager, message).catch(
      (error: unknown): ReadAnswer => ({
        _tag: "NotRead",
        reason: error instanceof Error ? error.message : `${error}`,
      }),
    )
    if (!connection.isClosed()) message.respond(answers.encode(answer))
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

const answerTo = async (manager: JetStreamManager, { subject, data }: Msg): Promise<ReadAnswer> => {
  const { deployment } = placeOfLog(subject)
  const request = Result.getOrThrow(requests.decode(data))
  if (!isName(deployment)) throw new Error(`${deployment} is no name of a deployment`)
  const log = subjectsOf(deployment).tokens(request.session)
  if (request._tag === "Look") {
    const [first, last] = await Promise.all([entryAt(manager, log, "first"), entryAt(manager, log, "last")])
    return { _tag: "Looked", first, last }
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
