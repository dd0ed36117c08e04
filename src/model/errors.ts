// Why a model cannot be served, found out from its files before a rank starts. Each message names the file and the reason.
import { Schema } from "effect"

/** The path, or a file that belongs to the model, cannot be read. */
export class ModelUnreadable extends Schema.TaggedError<ModelUnreadable>()("ModelUnreadable", {
  file: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `cannot read ${this.file}: ${this.reason}`
  }
}

/** A truncated file, or one that contradicts itself or its format. */
export class ModelCorrupt extends Schema.TaggedError<ModelCorrupt>()("ModelCorrupt", {
  file: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `${this.file} is damaged: ${this.reason}. Fetch the file again.`
  }
}

/** A sound file of a kind that Chorus does not run. */
export class ModelUnsupported extends Schema.TaggedError<ModelUnsupported>()("ModelUnsupported", {
  file: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `${this.file} is not supported: ${this.reason}`
  }
}

/** A tensor that the model's configuration calls for is missing, or has another shape. */
export class TensorMismatch extends Schema.TaggedError<TensorMismatch>()("TensorMismatch", {
  file: Schema.String,
  tensor: Schema.String, // by the name that the file gives it
  reason: Schema.String,
}) {
  override get message() {
    return `${this.file}: tensor ${this.tensor} ${this.reason}`
  }
}

/** A context was asked for that is longer than the one the model was trained for. */
export class ContextTooLong extends Schema.TaggedError<ContextTooLong>()("ContextTooLong", {
  file: Schema.String,
  asked: Schema.Int,
  context: Schema.Int,
}) {
  override get message() {
    return `${this.file}: a context of ${this.asked} tokens was asked for, the model's is ${this.context}. Ask for ${this.context} or fewer.`
  }
}

/** Speculation needs one vocabulary: a token id has to mean the same to the draft and to the base. */
export class VocabularyMismatch extends Schema.TaggedError<VocabularyMismatch>()("VocabularyMismatch", {
  base: Schema.String,
  draft: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `the draft ${this.draft} and the base ${this.base} have different vocabularies: ${this.reason}. Choose a draft of the base's own family.`
  }
}

/** Weights and KV of a shard are more than the device has free. */
export class MemoryExceeded extends Schema.TaggedError<MemoryExceeded>()("MemoryExceeded", {
  file: Schema.String,
  weights: Schema.Int, // bytes
  kv: Schema.Int,
  tokens: Schema.Int, // that the KV is for
  free: Schema.Int,
}) {
  override get message() {
    const needed = `${mebibytes(this.weights)} of weights and ${mebibytes(this.kv)} of KV for ${this.tokens} tokens`
    return `${this.file} does not fit: it needs ${needed}, ${mebibytes(this.free)} are free. Use more ranks, a shorter context, or a smaller model.`
  }
}

const mebibytes = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20)} MiB`

/** The chat template is too long, does not parse, or refused the messages. */
export class TemplateFailed extends Schema.TaggedError<TemplateFailed>()("TemplateFailed", {
  file: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `the chat template of ${this.file} failed: ${this.reason}`
  }
}

/** A text could not be turned into tokens. */
export class EncodingFailed extends Schema.TaggedError<EncodingFailed>()("EncodingFailed", {
  file: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `the tokenizer of ${this.file} failed: ${this.reason}`
  }
}

/** What `open` fails with. */
export const ModelError = Schema.Union([
  ModelUnreadable,
  ModelCorrupt,
  ModelUnsupported,
  TensorMismatch,
  ContextTooLong,
  TemplateFailed,
])
export type ModelError = typeof ModelError.Type
