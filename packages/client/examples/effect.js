// node effect.js [SERVERS] [DEPLOYMENT]: the same as an Effect service.
import { Chorus } from "@chorus/client/effect"
import { Console, Effect, Stream } from "effect"

const [servers = "nats://127.0.0.1:4222", deployment = "demo"] = process.argv.slice(2)
const program = Effect.gen(function* () {
  const chorus = yield* Chorus
  const request = { prompt: "export class", maxTokens: 12, seed: 7 }
  yield* Stream.runForEach(chorus.tokens(request), ({ text }) => Effect.sync(() => process.stdout.write(text)))
  const { tokens } = yield* chorus.answer(request)
  yield* Console.log(`\n${tokens.length} tokens`)
  const { _tag, field } = yield* Effect.flip(chorus.answer({ prompt: "a", topP: 2 }))
  yield* Console.log(`${_tag} of ${field}`)
})

await Effect.runPromise(Effect.provide(program, Chorus.layer({ servers, deployment })))
