// The supervisor's encoder: turns texts and conversations into tokens, as the models' files say. It may read files and do
// nothing else, and what a template does to it harms no other process. It answers one request after the other on its IPC
// channel, and ends with it.
import { Effect, Exit, Schema } from "effect"
import { encode } from "../src/model/encoding.ts"
import { type Model, type ModelError, open } from "../src/model/index.ts"
import { EncodeAnswer, EncodeRequest } from "../src/session/encoderMessages.ts"

const models = new Map<string, Model>()

const opened = (path: string): Effect.Effect<Model, ModelError> => {
  const known = models.get(path)
  if (known !== undefined) return Effect.succeed(known)
  return Effect.tap(open(path), (model) => Effect.sync(() => models.set(path, model)))
}

const answer = Effect.fnUntraced(function* ({ path, encode: given }: EncodeRequest) {
  const model = yield* opened(path)
  if (given !== null) return yield* encode(model, given)
  model.tokenizer.warm()
  return new Int32Array(0)
})

process.on("message", (message) => {
  const request = Schema.decodeUnknownSync(EncodeRequest)(message)
  const exit = Effect.runSyncExit(Effect.result(answer(request)))
  if (Exit.isFailure(exit)) throw exit.cause // a bug of ours; the supervisor hears that this process has ended
  const result = exit.value
  const said: EncodeAnswer =
    result._tag === "Success" ? { _tag: "Encoded", tokens: result.success } : { _tag: "Refused", error: result.failure }
  process.send?.(Schema.encodeSync(EncodeAnswer)(said))
})
