// What the tests ask for where nothing in particular matters: a prompt that the demo pair goes on with at length, and a tree
// that makes speculation run though the adaptive control would find that it does not pay for models this small.
import type { InferRequest } from "../../src/wire/infer.ts"

export const PROMPT = "export class Queue<T> {\n"
export const TREE = { depth: 3, width: 2, nodes: 6 }

/** Sampled with a seed, so that each run of it gives the same tokens. */
export const SAMPLED = { prompt: PROMPT, temperature: 0.8, seed: 5n } satisfies InferRequest
