// Fields that are not OpenAI's, but known from other servers that speak its language: a client that was written for one of
// them sends them here too.
import { ignored, refused } from "./field.ts"

const VLLM = {
  use_beam_search: refused({ but: [false], from: "vLLM" }),
  length_penalty: ignored("of beam search alone", "vLLM"),
  early_stopping: ignored("of beam search alone", "vLLM"),
  stop_token_ids: refused({ but: [[]], hint: "stop takes texts, names of control tokens among them", from: "vLLM" }),
  include_stop_str_in_output: refused({ but: [false], from: "vLLM" }),
  skip_special_tokens: refused({ but: [true], from: "vLLM" }),
  spaces_between_special_tokens: ignored("there are no special tokens in the text", "vLLM"),
  truncate_prompt_tokens: refused({ from: "vLLM" }),
  allowed_token_ids: refused({ from: "vLLM" }),
  bad_words: refused({ but: [[]], from: "vLLM" }),
  prompt_logprobs: refused({ hint: "echo and logprobs of a completion tell them", from: "vLLM" }),
  return_token_ids: refused({ but: [false], from: "vLLM" }),
  return_tokens_as_token_ids: refused({ but: [false], from: "vLLM" }),
  logits_processors: refused({ but: [[]], from: "vLLM" }),
  guided_json: refused({ from: "vLLM" }),
  guided_regex: refused({ from: "vLLM" }),
  guided_choice: refused({ from: "vLLM" }),
  guided_grammar: refused({ from: "vLLM" }),
  guided_decoding_backend: ignored("there is no guided decoding", "vLLM"),
  guided_whitespace_pattern: ignored("there is no guided decoding", "vLLM"),
  structured_outputs: refused({ from: "vLLM" }),
  priority: ignored("requests are served in their order", "vLLM"),
  request_id: ignored("x-request-id is the header for it", "vLLM"),
  cache_salt: ignored("a cached prompt changes no answer", "vLLM"),
  kv_transfer_params: ignored("KV moves by itself", "vLLM"),
  vllm_xargs: refused({ but: [{}], from: "vLLM" }),
}

const LLAMA_CPP = {
  n_predict: refused({ but: [-1], hint: "max_tokens is its name here", from: "llama.cpp" }),
  repeat_last_n: refused({ but: [-1], hint: "Penalties count all that has come", from: "llama.cpp" }),
  cache_prompt: ignored("a cached prompt changes no answer", "llama.cpp"),
  id_slot: ignored("there are no slots", "llama.cpp"),
  n_keep: ignored("the context is never shifted", "llama.cpp"),
  n_discard: ignored("the context is never shifted", "llama.cpp"),
  min_keep: refused({ but: [0, 1], from: "llama.cpp" }),
  samplers: refused({ from: "llama.cpp" }),
  typical_p: refused({ but: [1], from: "llama.cpp" }),
  top_n_sigma: refused({ but: [-1], from: "llama.cpp" }),
  dynatemp_range: refused({ but: [0], from: "llama.cpp" }),
  dynatemp_exponent: ignored("of dynatemp_range alone", "llama.cpp"),
  xtc_probability: refused({ but: [0], from: "llama.cpp" }),
  xtc_threshold: ignored("of xtc_probability alone", "llama.cpp"),
  mirostat: refused({ but: [0], from: "llama.cpp" }),
  mirostat_tau: ignored("of mirostat alone", "llama.cpp"),
  mirostat_eta: ignored("of mirostat alone", "llama.cpp"),
  dry_multiplier: refused({ but: [0], from: "llama.cpp" }),
  dry_base: ignored("of dry_multiplier alone", "llama.cpp"),
  dry_allowed_length: ignored("of dry_multiplier alone", "llama.cpp"),
  dry_penalty_last_n: ignored("of dry_multiplier alone", "llama.cpp"),
  dry_sequence_breakers: ignored("of dry_multiplier alone", "llama.cpp"),
  grammar: refused({ but: [""], from: "llama.cpp" }),
  json_schema: refused({ from: "llama.cpp" }),
  n_probs: refused({ but: [0], hint: "logprobs is its name here", from: "llama.cpp" }),
  post_sampling_probs: refused({ but: [false], from: "llama.cpp" }),
  t_max_predict_ms: refused({ but: [0], from: "llama.cpp" }),
  timings_per_token: ignored("the answer has OpenAI's fields", "llama.cpp"),
  response_fields: ignored("the answer has OpenAI's fields", "llama.cpp"),
  lora: refused({ but: [[]], from: "llama.cpp" }),
}

const OLLAMA = {
  options: refused({ but: [{}], hint: "What it holds has fields of its own here", from: "Ollama" }),
  keep_alive: ignored("the deployment says how long it stays", "Ollama"),
  format: refused({ but: [""], from: "Ollama" }),
  think: refused({ hint: "chat_template_kwargs tells the template", from: "Ollama" }),
}

const SGLANG = {
  regex: refused({ from: "SGLang" }),
  ebnf: refused({ from: "SGLang" }),
  stop_regex: refused({ but: [[]], from: "SGLang" }),
  no_stop_trim: refused({ but: [false], from: "SGLang" }),
  lora_path: refused({ from: "SGLang" }),
  return_hidden_states: refused({ but: [false], from: "SGLang" }),
  custom_logit_processor: refused({ from: "SGLang" }),
  custom_params: refused({ but: [{}], from: "SGLang" }),
  session_params: refused({ but: [{}], from: "SGLang" }),
  rid: ignored("x-request-id is the header for it", "SGLang"),
  separate_reasoning: ignored("reasoning is part of the text", "SGLang"),
  stream_reasoning: ignored("reasoning is part of the text", "SGLang"),
}

export const OTHERS = { ...VLLM, ...LLAMA_CPP, ...OLLAMA, ...SGLANG }

/** Of chats alone. */
export const OTHERS_OF_CHAT = {
  echo: refused({ but: [false], hint: "Completions have it", from: "vLLM" }),
  add_generation_prompt: refused({ but: [true], from: "vLLM" }),
  continue_final_message: refused({ but: [false], from: "vLLM" }),
  chat_template: refused({ hint: "The model's own is used", from: "vLLM" }),
  documents: refused({ but: [[]], from: "vLLM" }),
  mm_processor_kwargs: refused({ but: [{}], from: "vLLM" }),
  include_reasoning: ignored("reasoning is part of the text", "vLLM"),
  reasoning_format: ignored("reasoning is part of the text", "llama.cpp"),
  parse_tool_calls: ignored("there are no tool calls", "llama.cpp"),
}
