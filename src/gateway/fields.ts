// OpenAI's fields of chats and completions, and what becomes of each here.
import { Schema } from "effect"
import { ignored, optional, refused, schemasOf, supported } from "./field.ts"
import { OTHERS, OTHERS_OF_CHAT } from "./otherServers.ts"

const between = (minimum: number, maximum: number) =>
  Schema.Finite.pipe(Schema.check(Schema.isBetween({ minimum, maximum })))
const int = (minimum: number, maximum: number) => Schema.Int.pipe(Schema.check(Schema.isBetween({ minimum, maximum })))

const MOST_TOKENS = 2 ** 31 - 1
const MOST_CHOICES = 16
const MOST_STOPS = 16
const MAX_ALTERNATIVES = 20

const Stop = Schema.NonEmptyString.pipe(Schema.check(Schema.isMaxLength(1_000)))

/** JSON's numbers keep 53 bits of an integer: one that has more comes as a bigint (requestBody.ts). */
const Seed = Schema.Union([
  Schema.Int,
  Schema.BigInt.pipe(Schema.check(Schema.isBetweenBigInt({ minimum: -(2n ** 63n), maximum: 2n ** 64n - 1n }))),
]).annotate({ message: "has to be an integer from -2^63 to 2^64 - 1" })

/** Which tokens there are the model knows. */
const Biases = Schema.Record(Schema.String, between(-100, 100))

const STREAM_OPTIONS = {
  include_usage: supported(optional(Schema.Boolean), "a last event with the usage"),
  continuous_usage_stats: supported(
    optional(Schema.Boolean),
    "with `include_usage`: the usage so far in each event",
    "vLLM",
  ),
  include_obfuscation: ignored("nothing is added to hide the tokens' lengths"),
}

/** Of both. */
const SHARED = {
  model: supported(
    Schema.NonEmptyString.pipe(Schema.check(Schema.isMaxLength(256))),
    "a deployment's name, as /v1/models lists them",
  ),
  stream: supported(optional(Schema.Boolean), "server-sent events"),
  stream_options: supported(optional(Schema.Struct(schemasOf(STREAM_OPTIONS))), "see below"),
  temperature: supported(
    optional(between(0, 2)),
    "0 takes the most probable token; where it is left out the model's, else 1",
  ),
  top_p: supported(optional(between(0, 1)), "1 is off; where it is left out the model's"),
  n: supported(
    optional(int(1, MOST_CHOICES)),
    "the first choice has the seed itself, the others seeds that follow from it",
  ),
  stop: supported(
    optional(Schema.Union([Stop, Schema.Array(Stop).pipe(Schema.check(Schema.isMaxLength(MOST_STOPS)))])),
    "one text, or up to 16",
  ),
  seed: supported(
    optional(Seed),
    "the same request and seed give the same tokens; an integer of 64 bits, with a sign or without",
  ),
  frequency_penalty: supported(optional(between(-2, 2)), "of the answer's tokens, for each time that they came"),
  presence_penalty: supported(optional(between(-2, 2)), "of the answer's tokens, for having come"),
  logit_bias: supported(
    optional(Biases),
    "by a token's number, at most 1,024 of them; -100 bans it at any temperature, 100 makes it come",
  ),
  top_k: supported(optional(int(-1, MOST_TOKENS)), "0 and -1 are off; where it is left out the model's", "vLLM"),
  min_p: supported(optional(between(0, 1)), "0 is off; where it is left out the model's", "vLLM"),
  repetition_penalty: supported(
    optional(between(0.01, 100)),
    "of prompt and answer; 1 is off; where it is left out the model's",
    "vLLM",
  ),
  repeat_penalty: supported(optional(between(0.01, 100)), "the same, where that is left out", "llama.cpp"),
  min_tokens: supported(
    optional(int(0, MOST_TOKENS)),
    "before which neither the model's end nor a stop ends the answer",
    "vLLM",
  ),
  ignore_eos: supported(
    optional(Schema.Boolean),
    "the model's ends are tokens like others, without text: it goes on to the last token that it may have",
    "vLLM",
  ),
  add_special_tokens: supported(
    optional(Schema.Boolean),
    "what the model's files put around a text, such as bos: true for a prompt, false for a chat",
    "vLLM",
  ),
  user: ignored("nothing is kept of users"),
  metadata: ignored("nothing is kept of answers"),
  store: ignored("nothing is kept of answers"),
  ...OTHERS,
}

const MESSAGE = {
  role: supported(
    Schema.Literals(["system", "developer", "user", "assistant"]).annotate({
      message: "has to be system, developer, user or assistant: another one is not supported here",
    }),
    "`developer` is `system`, which templates know",
  ),
  content: supported(
    Schema.Union([
      Schema.String,
      Schema.Array(
        Schema.Struct({
          type: Schema.Literal("text").annotate({ message: 'has to be "text": another one is not supported here' }),
          text: Schema.String,
        }),
      ),
    ]).annotate({ message: "has to be a text, or a list of parts of the type text" }),
    "a text, or parts of the type `text`",
  ),
  name: ignored("templates have no place for it"),
  refusal: refused(),
  audio: refused(),
  function_call: refused(),
  tool_calls: refused({ but: [[]] }),
  tool_call_id: refused(),
  annotations: refused({ but: [[]] }),
  reasoning_content: ignored("templates leave it out of earlier turns", "vLLM"),
  reasoning: ignored("templates leave it out of earlier turns", "vLLM"),
}

const maxTokens = optional(int(0, MOST_TOKENS))

const CHAT = {
  messages: supported(Schema.NonEmptyArray(Schema.Struct(schemasOf(MESSAGE))), "see below"),
  ...SHARED,
  max_completion_tokens: supported(maxTokens, "the answer's length; all that the context leaves where it is left out"),
  max_tokens: supported(maxTokens, "its former name"),
  logprobs: supported(optional(Schema.Boolean), "the model's own, before temperature and the like"),
  top_logprobs: supported(optional(int(0, MAX_ALTERNATIVES)), "with `logprobs`"),
  response_format: refused({ but: [{ type: "text" }] }),
  modalities: refused({ but: [["text"]] }),
  audio: refused(),
  tools: refused({ but: [[]] }),
  tool_choice: refused({ but: ["none", "auto"] }),
  functions: refused({ but: [[]] }),
  function_call: refused({ but: ["none", "auto"] }),
  web_search_options: refused(),
  verbosity: refused({ but: ["medium"] }),
  moderation: refused(),
  parallel_tool_calls: ignored("there are no tool calls"),
  prediction: ignored("the draft model predicts"),
  service_tier: ignored("there is one"),
  safety_identifier: ignored("nothing is kept of users"),
  prompt_cache_key: ignored("prompts are found again by themselves"),
  prompt_cache_options: ignored("prompts are found again by themselves"),
  prompt_cache_retention: ignored("prompts are found again by themselves"),
  reasoning_effort: supported(optional(Schema.String), "the chat template is told"),
  chat_template_kwargs: supported(
    optional(Schema.Record(Schema.String, Schema.Json)),
    "what the chat template is told beside the messages, such as `enable_thinking`",
    "vLLM",
  ),
  ...OTHERS_OF_CHAT,
}

const Tokens = Schema.NonEmptyArray(int(0, MOST_TOKENS))

const COMPLETION = {
  prompt: supported(
    Schema.Union([Schema.String, Schema.NonEmptyArray(Schema.String), Tokens, Schema.NonEmptyArray(Tokens)]).annotate({
      message: "has to be a text, a list of tokens, or a list of either",
    }),
    "a text, a list of tokens, or a list of either",
  ),
  ...SHARED,
  max_tokens: supported(
    maxTokens,
    "16 where it is left out, or less where the context leaves less. 0 with `echo` is for the prompt's log-probabilities",
  ),
  logprobs: supported(optional(int(0, MAX_ALTERNATIVES)), "the model's own, before temperature and the like"),
  best_of: supported(optional(int(1, MOST_CHOICES)), "refused where it is not `n`"),
  echo: supported(
    optional(Schema.Boolean),
    "the text begins with the prompt, and `logprobs` are its tokens' too, but for the first",
  ),
  suffix: refused({ but: [""] }),
}

/** Every table, by the name that the documentation has for it. */
export const TABLES = {
  "Of a chat": CHAT,
  "Of a chat's message": MESSAGE,
  "Of a completion": COMPLETION,
  "Of `stream_options`": STREAM_OPTIONS,
}

export const ChatRequest = Schema.Struct(schemasOf(CHAT))
export type ChatRequest = typeof ChatRequest.Type

export const CompletionRequest = Schema.Struct(schemasOf(COMPLETION))
export type CompletionRequest = typeof CompletionRequest.Type

const Shared = Schema.Struct(schemasOf({ ...SHARED, max_tokens: CHAT.max_tokens }))
/** What chats and completions have in common. */
export type Shared = typeof Shared.Type
