// Texts to tokens in a process of their own. Chat templates and the tokenizer's expressions are code from a model's files:
// one that never ends, or takes all the memory, would stop every session of the supervisor with it.
import { type ChildProcess, fork } from "node:child_process"
import { extname, join } from "node:path"
import { Context, Effect, Schema, type Scope, Semaphore } from "effect"
import { SMALL_HEAP } from "../host/process.ts"
import type { Encodable, EncodeError } from "../model/encoding.ts"
import { EncodingFailed, type Model } from "../model/index.ts"
import { EncodeAnswer, type EncodeRequest } from "./encoderMessages.ts"

const ACTOR = join(import.meta.dirname, `../../actors/encoder${extname(import.meta.filename)}`) // .js in a package

const HEAP_MEBIBYTES = 1_024

/** It limits itself (src/model/encoding.ts); this is for what V8 cannot stop, and holds the opening of the model too. */
const ANSWER_MILLIS = 30_000

export interface Encoder {
  /** Opens the model there, so that the first request need not wait for it. */
  readonly warm: (model: Model) => Effect.Effect<void>
  readonly encode: (model: Model, given: Encodable) => Effect.Effect<Int32Array, EncodeError>
}

/** The process ended before it answered, or was ended because it did not. */
class EncoderEnded extends Schema.TaggedError<EncoderEnded>()("EncoderEnded", {
  reason: Schema.String,
  ours: Schema.Boolean, // what it was asked for ended it; otherwise it is asked again
}) {}

/** One request is answered at a time. A process that has ended is started again with the next one. */
const startEncoder = Effect.gen(function* () {
  const turn = Semaphore.makeUnsafe(1)
  let running: ChildProcess | null = null
  yield* Effect.addFinalizer(() => Effect.sync(() => running?.kill("SIGKILL")))

  const ask = (request: EncodeRequest) =>
    Effect.suspend(() => {
      const child = running ?? start()
      running = child
      return exchange(child, request).pipe(
        Effect.tapError(() =>
          Effect.sync(() => {
            child.kill("SIGKILL")
            running = null
          }),
        ),
      )
    }).pipe(Effect.uninterruptible, turn.withPermits(1)) // an answer that is not taken would be the next request's

  const answer = Effect.fnUntraced(function* (request: EncodeRequest) {
    const said = yield* ask(request).pipe(
      Effect.retry({ times: 1, while: ({ ours }) => !ours }),
      Effect.mapError(({ reason }) => new EncodingFailed({ file: request.path, reason })),
    )
    return said._tag === "Encoded" ? said.tokens : yield* Effect.fail(said.error)
  })

  const encoder: Encoder = {
    warm: ({ path }) => Effect.ignore(answer({ path, encode: null })),
    encode: ({ path }, given) => answer({ path, encode: given }),
  }
  return encoder
})

export const StartEncoder = Context.Reference<Effect.Effect<Encoder, never, Scope.Scope>>(
  "chorus/session/StartEncoder",
  { defaultValue: () => startEncoder },
)

/** It gets no environment, which holds the supervisor's secrets, and may read files alone. */
const start = (): ChildProcess => {
  const child = fork(ACTOR, {
    env: {},
    // It encodes a text now and then, and keeps tables alone.
    execArgv: ["--permission", "--allow-fs-read=*", `--max-old-space-size=${HEAP_MEBIBYTES}`, ...SMALL_HEAP],
    serialization: "advanced",
    stdio: ["ignore", "ignore", "ignore", "ipc"],
    detached: true, // a terminal's Ctrl-C is for us
  })
  child.unref()
  child.channel?.unref()
  return child
}

const exchange = (child: ChildProcess, request: EncodeRequest): Effect.Effect<EncodeAnswer, EncoderEnded> =>
  Effect.callback((resume) => {
    const settle = (result: Effect.Effect<EncodeAnswer, EncoderEnded>): void => {
      clearTimeout(late)
      child.off("message", answered).off("exit", ended).off("error", failed)
      child.channel?.unref()
      resume(result)
    }
    const fail = (reason: string, ours: boolean) => settle(Effect.fail(new EncoderEnded({ reason, ours })))
    const answered = (message: unknown) => settle(Effect.orDie(Schema.decodeUnknownEffect(EncodeAnswer)(message)))
    const failed = ({ message }: Error) => fail(message, false)
    const ended = (code: number | null, signal: string | null) => {
      if (signal === "SIGKILL" || signal === "SIGTERM") fail("its process was killed twice. Try again", false)
      else if (signal !== null)
        fail(`it took more than ${HEAP_MEBIBYTES} MiB of memory`, true) // V8 aborts where its heap is full
      else fail(`its process ended with exit code ${code}`, true)
    }
    const late = setTimeout(() => fail(`it took more than ${ANSWER_MILLIS} ms`, true), ANSWER_MILLIS)
    child.on("message", answered).on("exit", ended).on("error", failed)
    child.channel?.ref()
    if (child.exitCode !== null || child.signalCode !== null) ended(child.exitCode, child.signalCode)
    else child.send(request, (error) => error !== null && failed(error))
  })
