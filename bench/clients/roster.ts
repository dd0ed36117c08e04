// What is tried: a client, the environment that it lives in, and the driver that has it do what is asked.
import { join } from "node:path"
import type { EnvironmentName } from "./installation.ts"

export interface Candidate {
  readonly name: string
  readonly environment: EnvironmentName
  readonly driver: string // path
}

const python = (file: string): string => join(import.meta.dirname, "python", file)
const javascript = (file: string): string => join(import.meta.dirname, "javascript", file)

export const CANDIDATES: ReadonlyArray<Candidate> = [
  { name: "openai (Python)", environment: "openai-1", driver: python("openai_driver.py") },
  { name: "openai (Python)", environment: "openai-2", driver: python("openai_driver.py") },
  { name: "openai (Python)", environment: "openai-3", driver: python("openai_driver.py") },
  { name: "openai (Node)", environment: "javascript", driver: javascript("openai.js") },
  { name: "langchain-openai", environment: "openai-3", driver: python("langchain_driver.py") },
  { name: "LangChain.js", environment: "javascript", driver: javascript("langchain.js") },
  { name: "llama-index", environment: "openai-2", driver: python("llamaindex_driver.py") },
  { name: "litellm", environment: "openai-2", driver: python("litellm_driver.py") },
  { name: "instructor", environment: "openai-2", driver: python("instructor_driver.py") },
  { name: "AI SDK", environment: "javascript", driver: javascript("aiSdk.js") },
  { name: "llm", environment: "openai-3", driver: python("llm_driver.py") },
  { name: "vLLM's benchmark", environment: "openai-1", driver: python("vllm_driver.py") },
  { name: "SGLang's benchmark", environment: "evaluation", driver: python("sglang_driver.py") },
  { name: "lm-evaluation-harness", environment: "evaluation", driver: python("lm_eval_driver.py") },
  { name: "requests", environment: "openai-1", driver: python("requests_driver.py") },
  { name: "httpx-sse", environment: "openai-1", driver: python("httpx_sse_driver.py") },
  { name: "curl", environment: "openai-1", driver: python("curl_driver.py") },
]
