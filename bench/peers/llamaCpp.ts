// Asks llamaCpp.js, the process that runs llama.cpp.
import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import { join } from "node:path"
import { Schema } from "effect"
import { BenchFailed } from "../failure.ts"

const Answer = Schema.Struct({
  result: Schema.optionalKey(
    Schema.Struct({
      version: Schema.optionalKey(Schema.String),
      system: Schema.optionalKey(Schema.String),
      millis: Schema.optionalKey(Schema.Array(Schema.Number)),
      tokens: Schema.optionalKey(Schema.Number),
      first: Schema.optionalKey(Schema.Array(Schema.Number)),
      pauses: Schema.optionalKey(Schema.Array(Schema.Number)),
    }),
  ),
  error: Schema.optionalKey(Schema.String),
})
const decode = Schema.decodeUnknownSync(Answer)

type Command =
  | { readonly command: "load"; readonly path: string; readonly threads: number; readonly context: number }
  | { readonly command: "prefill"; readonly tokens: ReadonlyArray<number>; readonly count: number }
  | { readonly command: "decode"; readonly tokens: ReadonlyArray<number>; readonly count: number }
  | ({ readonly command: "parallel" } & ParallelLoad)

/** A number of streams, each of which asks for one of the prompts after another. */
export interface ParallelLoad {
  readonly prompts: ReadonlyArray<ReadonlyArray<number>>
  readonly streams: number
  readonly maxTokens: number
  readonly warmUpMillis: number
  readonly windowMillis: number
}

export class LlamaCpp implements AsyncDisposable {
  readonly version: string
  readonly #child: ChildProcess

  static async start(path: string, threads: number, context: number): Promise<LlamaCpp> {
    const child = fork(join(import.meta.dirname, "llamaCpp.js"), {
      stdio: ["ignore", "ignore", "inherit", "ipc"],
      execArgv: [], // what this process was started with, node-llama-cpp hands on to the processes of its own
    })
    const { version } = await ask(child, { command: "load", path, threads, context })
    return new LlamaCpp(child, version ?? "of no known version")
  }

  private constructor(child: ChildProcess, version: string) {
    this.#child = child
    this.version = version
  }

  /** Milliseconds of each of `count` passes over the tokens. */
  async prefill(tokens: ReadonlyArray<number>, count: number): Promise<ReadonlyArray<number>> {
    return (await ask(this.#child, { command: "prefill", tokens, count })).millis ?? []
  }

  /** Milliseconds of each of `count` greedy steps after the tokens. */
  async decode(tokens: ReadonlyArray<number>, count: number): Promise<ReadonlyArray<number>> {
    return (await ask(this.#child, { command: "decode", tokens, count })).millis ?? []
  }

  /** What came within the window; times are milliseconds. */
  async parallel(load: ParallelLoad) {
    const { tokens = 0, first = [], pauses = [] } = await ask(this.#child, { command: "parallel", ...load })
    return { tokens, first, pauses }
  }

  async [Symbol.asyncDispose]() {
    if (this.#child.exitCode !== null) return
    const exited = once(this.#child, "exit")
    this.#child.disconnect()
    await exited
  }
}

const ask = async (child: ChildProcess, command: Command) => {
  child.send(command)
  const answered = new AbortController() // takes the listeners away
  const { signal } = answered
  const [first, second]: ReadonlyArray<unknown> = await Promise.race([
    once(child, "message", { signal }),
    once(child, "exit", { signal }).then(([code]: ReadonlyArray<unknown>) => [{ error: `it exited with ${code}` }]),
  ]).finally(() => answered.abort())
  const { result, error } = decode(first ?? second)
  if (result === undefined) throw new BenchFailed(`node-llama-cpp failed at ${command.command}: ${error}`)
  return result
}
