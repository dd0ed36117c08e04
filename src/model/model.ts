// Opens a model: a path in, everything that the rest has to know of it out. The weights stay in their files.
import { statSync } from "node:fs"
import { basename, join, resolve } from "node:path"
import { Context, Effect, Schema } from "effect"
import type { Shape, TensorSource } from "../../native/index.ts"
import type { SamplingDefaults } from "../wire/samplingDefaults.ts"
import { ChatTemplate, ChatTemplateField, defaultTemplate } from "./chat.ts"
import { ContextTooLong, ModelError, ModelUnreadable, VocabularyMismatch } from "./errors.ts"
import { attempt } from "./formats/fileCursor.ts"
import { readGguf } from "./formats/gguf.ts"
import { readGgufModel } from "./formats/ggufModel.ts"
import { readHuggingFace } from "./formats/huggingface.ts"
import { readJson, readText } from "./formats/json.ts"
import { folderSampling, ggufSampling } from "./sampling.ts"
import { ggufVocabulary, vocabularyWarnings } from "./tokenizer/ggufVocabulary.ts"
import { huggingFaceVocabulary } from "./tokenizer/huggingfaceVocabulary.ts"
import { Tokenizer } from "./tokenizer/tokenizer.ts"
import type { Vocabulary } from "./tokenizer/vocabulary.ts"

export interface Model {
  readonly name: string // of the folder or file, without its ending
  readonly path: string // absolute
  readonly format: "safetensors" | "gguf"
  readonly shape: Shape
  readonly tensors: ReadonlyArray<TensorSource>
  readonly tokenizer: Tokenizer
  readonly chatTemplate: ChatTemplate | null
  readonly context: number // tokens a session may have: what was asked for, or the model's own
  readonly bos: number | null
  readonly ends: ReadonlySet<number> // tokens that end a generation
  readonly bytes: number // of the weight files
  readonly sampling: SamplingDefaults // where a request does not say
  readonly warnings: ReadonlyArray<string> // what the files leave open, for the user that chose the model; each names the file
}

export interface OpenOptions {
  readonly context?: number // tokens; the model's own by default
}

/** Reads a Hugging Face folder or a GGUF file, and checks all that can be checked without reading the weights. */
export const open = (path: string, options: OpenOptions = {}): Effect.Effect<Model, ModelError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(read(resolve(path), options))
    } catch (error) {
      return Schema.is(ModelError)(error) ? Effect.fail(error) : Effect.die(error)
    }
  }).pipe(Effect.withSpan("model.open", { attributes: { path } }))

/** How whoever runs here opens models. */
export const OpenModel = Context.Reference<typeof open>("chorus/model/OpenModel", { defaultValue: () => open })

const read = (path: string, options: OpenOptions): Model => {
  const stat = attempt(path, () => statSync(path, { throwIfNoEntry: false }))
  if (stat === undefined) {
    throw new ModelUnreadable({ file: path, reason: "there is nothing at this path" })
  }
  const model = stat.isDirectory() ? readFolder(path) : readFile(path)
  const asked = options.context ?? model.shape.context
  if (asked > model.shape.context) {
    throw new ContextTooLong({ file: path, asked, context: model.shape.context })
  }
  return { ...model, context: asked }
}

type Described = Omit<Model, "context">

const readFolder = (path: string): Described => {
  const { shape, tensors, bytes } = readHuggingFace(path)
  const vocabulary = huggingFaceVocabulary(path, shape.vocab)
  const template = readText(join(path, "chat_template.jinja")) ?? readTemplateField(path)
  const name = basename(path)
  return {
    name,
    path,
    format: "safetensors",
    shape,
    tensors,
    bytes,
    ...folderSampling(path),
    ...texts(path, vocabulary, template),
  }
}

const readTemplateField = (path: string): string | null => {
  for (const name of ["chat_template.json", "tokenizer_config.json"]) {
    const field = readJson(join(path, name), ChatTemplateField)
    const template = field === null ? null : defaultTemplate(field)
    if (template !== null) return template
  }
  return null
}

const readFile = (path: string): Described => {
  const { shape, tensors, metadata, bytes } = readGgufModel(path)
  const vocabulary = ggufVocabulary(path, metadata, shape.vocab)
  const stored = metadata.get("tokenizer.chat_template")
  const template = typeof stored === "string" ? stored : null
  const name = basename(path, ".gguf")
  const { sampling, warnings } = ggufSampling(path, metadata)
  return {
    ...{ name, path, format: "gguf", shape, tensors, bytes, sampling },
    warnings: [...vocabularyWarnings(path, metadata), ...warnings],
    ...texts(path, vocabulary, template),
  }
}

/** What a GGUF leaves open, from its head alone; nothing of a file that cannot be read: opening it says why. */
export const warningsOf = (path: string): ReadonlyArray<string> => {
  try {
    return vocabularyWarnings(path, readGguf(path).metadata)
  } catch {
    return []
  }
}

const texts = (path: string, vocabulary: Vocabulary, template: string | null) => {
  const name = (id: number | null) => (id === null ? "" : (vocabulary.tokens[id] ?? ""))
  const controls = Array.from(vocabulary.special).flatMap(([id, kind]) => (kind === "control" ? [name(id)] : []))
  const tokens = { bos: name(vocabulary.bos), eos: name(vocabulary.eos), controls }
  return {
    tokenizer: new Tokenizer(vocabulary),
    chatTemplate: template === null ? null : new ChatTemplate(path, template, tokens),
    bos: vocabulary.bos,
    ends: vocabulary.ends,
  }
}

/**
 * Fails unless every token means the same to both. Compared are the tokens, not the rows of the embeddings: models of one
 * family are padded differently. So a draft may have more rows than the base, whose ids must not be proposed.
 */
export const sameVocabulary = (base: Model, draft: Model): Effect.Effect<void, VocabularyMismatch> =>
  Effect.suspend(() => {
    const ours = base.tokenizer.vocabulary.tokens
    const theirs = draft.tokenizer.vocabulary.tokens
    for (let id = 0; id < Math.max(ours.length, theirs.length); id++) {
      if (ours[id] === theirs[id]) continue
      const reason = `token ${id} is ${quoted(theirs[id])} in the draft, ${quoted(ours[id])} in the base`
      return Effect.fail(new VocabularyMismatch({ base: base.path, draft: draft.path, reason }))
    }
    return Effect.void
  })

const quoted = (token: string | undefined): string => (token === undefined ? "none" : JSON.stringify(token))
