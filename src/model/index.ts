// Models: a path in, a description out (shape, where the tensors lie, tokenizer, chat template). Nothing here loads the
// native module or reads weights into memory.
export { type ChatMessage, ChatTemplate } from "./chat.ts"
export { digestOf } from "./digest.ts"
export {
  ContextTooLong,
  EncodingFailed,
  MemoryExceeded,
  ModelCorrupt,
  ModelError,
  ModelUnreadable,
  ModelUnsupported,
  TemplateFailed,
  TensorMismatch,
  VocabularyMismatch,
} from "./errors.ts"
export { type Model, OpenModel, open, sameVocabulary, warningsOf } from "./model.ts"
export { kvTypeOf, memoryNeeded, requireMemory, shardTensors, wholeShard } from "./shard.ts"
export { Detokenizer, detokenize } from "./tokenizer/detokenizer.ts"
export { Tokenizer } from "./tokenizer/tokenizer.ts"
