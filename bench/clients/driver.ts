// A driver: a process with one client in it, which does what it is asked by name and says what came out, or what it threw.
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { Result, Schema } from "effect"

const Numbers = Schema.Array(Schema.NullOr(Schema.Number))

/** What a client makes of an answer. Each driver says what its client tells, and no more. */
export const Facts = Schema.Struct({
  of: Schema.optionalKey(Schema.Literals(["chat", "completion"])),
  models: Schema.optionalKey(Schema.Array(Schema.String)),
  texts: Schema.optionalKey(Schema.Array(Schema.String)), // of the choices, or of the answers to several requests
  finish: Schema.optionalKey(Schema.Array(Schema.String)),
  pieces: Schema.optionalKey(Schema.Number), // that a stream's text came in
  usage: Schema.optionalKey(Schema.Struct({ prompt: Schema.Number, completion: Schema.Number })), // tokens
  logprobs: Schema.optionalKey(Numbers),
  sum: Schema.optionalKey(Schema.Number), // of the log-probabilities of a continuation
  greedy: Schema.optionalKey(Schema.Boolean), // whether its tokens are the most probable ones
  counted: Schema.optionalKey(Schema.Number), // tokens, by a benchmark's reader
  status: Schema.optionalKey(Schema.Number), // of an error
  param: Schema.optionalKey(Schema.NullOr(Schema.String)),
})
export type Facts = typeof Facts.Type

const Hello = Schema.Struct({ version: Schema.String, abilities: Schema.Array(Schema.String) })
const Answer = Schema.Union([Schema.Struct({ facts: Facts }), Schema.Struct({ error: Schema.String })])
export type Answer = typeof Answer.Type

const decodeHello = Schema.decodeUnknownSync(Schema.fromJsonString(Hello))
const decodeAnswer = Schema.decodeUnknownResult(Schema.fromJsonString(Answer), { onExcessProperty: "error" })

/** A client that hangs is a client that fails. */
const PATIENCE_MILLIS = 120_000

export class Driver implements AsyncDisposable {
  readonly version: string
  readonly abilities: ReadonlySet<string>
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>

  static async start(program: string, file: string, asked: object): Promise<Driver> {
    const env = { ...process.env, PYTHONDONTWRITEBYTECODE: "1" } // the sources' folder stays as it is
    const child = spawn(program, [file, JSON.stringify(asked)], { env, stdio: ["pipe", "pipe", "pipe"] })
    let said = ""
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-2_000)
    })
    child.stdin.on("error", () => {}) // it has ended, as the missing answer says
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    const { value, done } = await within(lines.next(), child)
    if (done === true) throw new Error(`the driver ended at once: ${said.trim()}`)
    return new Driver(child, lines, decodeHello(value))
  }

  private constructor(child: ChildProcess, lines: AsyncIterator<string>, { version, abilities }: typeof Hello.Type) {
    this.version = version
    this.abilities = new Set(abilities)
    this.#child = child
    this.#lines = lines
  }

  async ask(ability: string): Promise<Answer> {
    this.#child.stdin?.write(`${ability}\n`)
    const { value, done } = await within(this.#lines.next(), this.#child)
    if (done === true) return { error: `no answer within ${PATIENCE_MILLIS / 1000} s, or the driver has ended` }
    const answer = decodeAnswer(value)
    return Result.isSuccess(answer) ? answer.success : { error: `${answer.failure.message}: ${value}` }
  }

  async [Symbol.asyncDispose]() {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, "exit")
    this.#child.stdin?.end()
    const patience = setTimeout(() => this.#child.kill("SIGKILL"), 5_000) // a client may have threads that never end
    await ended
    clearTimeout(patience)
  }
}

/** Waits for a line, and ends a driver that says none: then the lines end too. */
const within = async <A>(line: Promise<A>, child: ChildProcess): Promise<A> => {
  const patience = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MILLIS)
  try {
    return await line
  } finally {
    clearTimeout(patience)
  }
}
