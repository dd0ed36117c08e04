// The way of a model from its path to a pass, as the supervisor and a rank go it, and how it ends.
import { Cause, Effect, Exit } from "effect"
import { type Engine, type EngineOptions, native, type TensorSource } from "../../native/index.ts"
import { encode } from "../../src/model/encoding.ts"
import { kvTypeOf, type Model, memoryNeeded, open, shardTensors, wholeShard } from "../../src/model/index.ts"
import type { Random } from "./random.ts"

/** What may come of a file. All but the last are well. */
export const OUTCOMES = [
  ...["a pass ran", "ModelUnreadable", "ModelCorrupt", "ModelUnsupported", "TensorMismatch", "TemplateFailed"],
  ...[
    "EncodingFailed",
    "refused by the native module",
    "crashed",
    "hung",
    "took too much memory",
    "failed without a type",
  ],
] as const
export type Outcome = (typeof OUTCOMES)[number]

const BAD: ReadonlyArray<Outcome> = ["crashed", "hung", "took too much memory", "failed without a type"]
export const isBad = (outcome: Outcome): boolean => BAD.includes(outcome)

export interface Ending {
  readonly outcome: Outcome
  readonly reason: string
}

const MODEL_ERRORS: ReadonlySet<string> = new Set(OUTCOMES.slice(1, 7))
const isOutcome = (tag: string): tag is Outcome => MODEL_ERRORS.has(tag)

/** `random` also decides what is done to the description between the parser and the native module, now and then. */
export const attempt = async (random: Random, path: string): Promise<Ending> => {
  const opened = await Effect.runPromiseExit(open(path))
  if (Exit.isFailure(opened)) return failed(opened.cause)
  const model = opened.value
  const texts = await Effect.runPromiseExit(useTexts(random, model))
  if (Exit.isFailure(texts)) return failed(texts.cause)
  return load(random, model)
}

const failed = (cause: Cause.Cause<{ readonly _tag: string; readonly message: string }>): Ending => {
  const [reason] = cause.reasons
  if (reason !== undefined && Cause.isFailReason(reason)) {
    const { _tag, message } = reason.error
    if (isOutcome(_tag)) return { outcome: _tag, reason: message }
  }
  return { outcome: "failed without a type", reason: Cause.pretty(cause) }
}

const TEXT = "for i in range(3):  print('ä 123')\n"

/** Building the encoders takes longer than all the rest, so not every file's are. */
const useTexts = Effect.fnUntraced(function* (random: Random, model: Model) {
  if (!random.chance(0.06)) return
  const given = model.chatTemplate === null ? { text: TEXT } : { messages: [{ role: "user", content: TEXT }] }
  for (const token of yield* encode(model, given)) model.tokenizer.bytes(token)
})

const load = async (random: Random, model: Model): Promise<Ending> => {
  const shard = wholeShard(model.shape)
  memoryNeeded(model, shard, model.context)
  const sound: EngineOptions = {
    ...{ shape: model.shape, tensors: shardTensors(model, shard), shard, device: "CPU", threads: 1 },
    ...{ deterministic: random.chance(0.7), kvType: kvTypeOf(model.shape) },
  }
  const options = random.chance(0.1) ? { ...sound, tensors: misdescribed(random, sound.tensors) } : sound
  let engine: Engine
  try {
    engine = await native.load(options)
  } catch (error) {
    return refused(error)
  }
  try {
    await pass(engine, model)
    return { outcome: "a pass ran", reason: "" }
  } catch (error) {
    return refused(error)
  } finally {
    engine.dispose()
  }
}

/** A refusal of ours is a TypeError, or carries a code. */
const refused = (error: unknown): Ending =>
  error instanceof TypeError || (error instanceof Error && "code" in error)
    ? { outcome: "refused by the native module", reason: error.message }
    : {
        outcome: "failed without a type",
        reason: error instanceof Error ? (error.stack ?? error.message) : String(error),
      }

const pass = async (engine: Engine, { shape, tokenizer }: Model): Promise<void> => {
  engine.open("s", { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 0n })
  const tokens = Int32Array.of(0, Math.min(5, shape.vocab - 1), shape.vocab - 1)
  const running = engine.begin([{ session: "s", tokens, parents: Int32Array.of(-1, 0, 1) }])
  const { tokens: chosen } = await running.run([
    { op: "embed" },
    { op: "layers", from: 0, to: shape.layers },
    { op: "head", rows: Int32Array.of(0, 2), want: "tokens" },
  ])
  for (const token of chosen ?? []) tokenizer.bytes(token)
  running.end()
  await engine.commit("s", Int32Array.of(0, 1, 2))
}

/** A tensor that is not where it is said to be: what the parser has seen to is not believed again. */
const misdescribed = (random: Random, tensors: ReadonlyArray<TensorSource>): ReadonlyArray<TensorSource> => {
  const at = random.below(tensors.length)
  return tensors.map((tensor, index) => (index === at ? { ...tensor, ...misdescription(random, tensor) } : tensor))
}

const misdescription = (random: Random, tensor: TensorSource): Partial<TensorSource> => {
  const number = random.pick([0, 1, 2, 31, 2 ** 20, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 53, -1, 0.5, Number.NaN])
  const other = random.chance(0.5)
    ? number
    : random.pick([tensor.offset, tensor.bytes]) + random.pick([-2, -1, 1, 2, 64])
  switch (random.below(5)) {
    case 0:
      return { offset: other }
    case 1:
      return { bytes: other }
    case 2:
      return { type: random.pick(["f32", "f16", "q4_K", "q8_0", "iq2_xxs", "i32", "mxfp4", "nothing"]) }
    case 3:
      return { shape: random.pick([[], [number], [...tensor.shape, 1], tensor.shape.toReversed(), [number, number]]) }
    default:
      return { name: random.pick([tensor.name, "", "output.weight", "blk.0.attn_q.bias", "x".repeat(200)]) }
  }
}
