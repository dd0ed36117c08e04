// What is generated meanwhile: a few distinct requests, and how each generation is read. All of it follows from the seed.
import { Effect, Random } from "effect"
import type { InferRequest } from "../client/index.ts"

const PROMPTS = [
  "export class Queue<T> {\n",
  "/** A queue with a bound: offers wait while it is full. */\nexport class BoundedQueue<T> {\n",
  "import { readFileSync } from 'node:fs'\n\nconst lines = ",
  "function fibonacci(n: number): number {\n",
  "export const parse = (text: string) => {\n  const result = []\n",
  "interface Options {\n  readonly name: string\n",
]

const SPECULATION = ["adaptive", "none", { depth: 3, width: 2, nodes: 6 }, { depth: 5, width: 4, nodes: 12 }] as const

const DISTINCT = 24
const LEAST_TOKENS = 60

/** Half of them greedy, half at temperature 0.8, every prompt with every way to speculate. */
export const REQUESTS: ReadonlyArray<InferRequest> = Array.from({ length: DISTINCT }, (_, i) => ({
  prompt: PROMPTS[i % PROMPTS.length] ?? "",
  maxTokens: LEAST_TOKENS + ((i * 37) % 140),
  temperature: i % 2 === 0 ? 0 : 0.8,
  seed: BigInt(i),
  speculation: SPECULATION[Math.floor(i / PROMPTS.length)] ?? "adaptive",
}))

/** How one generation is asked for and read. Fractions are of its answer's length. */
export interface Scene {
  readonly request: number // of REQUESTS
  readonly way: "stream" | "unary" | "http"
  /** Where the first reader leaves, to come back there over another connection. */
  readonly leaves: ReadonlyArray<number>
  /** From where a second reader reads it, beginning when the first has its first token; null: there is none. */
  readonly second: number | null
}

const WAYS = ["stream", "stream", "stream", "http", "http", "unary"] as const

export const sceneOf = (seed: number, generation: number): Scene => {
  const choosing = Effect.gen(function* () {
    const scene: Scene = {
      request: yield* Random.nextIntBetween(0, DISTINCT - 1),
      way: WAYS[yield* Random.nextIntBetween(0, WAYS.length - 1)] ?? "stream",
      leaves: (yield* Effect.forEach([1, 2], () => Random.next)).filter((at) => at < 0.7).sort((a, b) => a - b),
      second: (yield* Random.nextBoolean) ? yield* Random.next : null,
    }
    return scene
  })
  return Effect.runSync(Random.withSeed(choosing, `${seed} ${generation}`))
}
