// A group of real rank processes on a real nats-server, driven as a supervisor does: by pass commands.
import { type ChildProcess, spawn } from "node:child_process"
import { join } from "node:path"
import { connect, type NatsConnection, RequestError } from "@nats-io/transport-node"
import { Effect, Exit, Result, Scope } from "effect"
import { type NatsServerOptions, start } from "../../src/natsServer/natsServer.ts"
import { RankBeat } from "../../src/wire/beat.ts"
import { codec } from "../../src/wire/codec.ts"
import { type Deployment, ENVIRONMENT, type Strategy } from "../../src/wire/deployment.ts"
import {
  type Decoded,
  type Draft,
  type DraftedTree,
  GREEDY,
  GroupControl,
  PassAnswer,
  PassCommand,
  type Prefilled,
  type SessionDraft,
  type Verified,
} from "../../src/wire/pass.ts"
import { groupSubjects } from "../../src/wire/subjects.ts"

const ROOT = join(import.meta.dirname, "../..")
const beats = codec("rank beat", RankBeat)
const commands = codec("pass command", PassCommand)
const answers = codec("pass answer", PassAnswer)
const controls = codec("group control", GroupControl)

/** Rows of a prefill pass. */
const CHUNK = 48

/** Generous: the machine may be busy with other things. */
const ANSWER_MILLIS = 60_000

export class Server implements AsyncDisposable {
  readonly url: string
  readonly #scope: Scope.Closeable
  constructor(url: string, scope: Scope.Closeable) {
    this.url = url
    this.#scope = scope
  }
  static async start(options: NatsServerOptions = {}): Promise<Server> {
    const scope = Scope.makeUnsafe()
    const { url } = await Effect.runPromise(Scope.provide(start(options), scope))
    return new Server(url, scope)
  }
  async [Symbol.asyncDispose]() {
    await Effect.runPromise(Scope.close(this.#scope, Exit.void))
  }
}

export interface GroupOptions {
  readonly name: string
  readonly model: string // path
  readonly strategy: Strategy
  readonly ranks: number
  readonly fuzzy?: number
  readonly epoch?: number
}

/** What a session's driver leaves out. */
type Rest<C extends PassCommand> = Omit<C, "_tag" | "session" | "epoch" | "pass" | "attempt">

export class RankGroup implements AsyncDisposable {
  readonly connection: NatsConnection
  readonly epoch: number
  readonly beats = new Map<number, RankBeat>()
  readonly processes: ReadonlyArray<ChildProcess>
  readonly subjects: ReturnType<typeof groupSubjects>
  #pass = 0

  /** `way`: the URL by which the ranks reach the server, where it is another one than ours. */
  static async start(server: Server, options: GroupOptions, way = server.url): Promise<RankGroup> {
    const group = await RankGroup.launch(server, options, way)
    try {
      await group.ready()
      return group
    } catch (error) {
      await group[Symbol.asyncDispose]()
      throw error
    }
  }

  /** Starts the ranks, and does not wait for them. */
  static async launch({ url }: Server, options: GroupOptions, way = url): Promise<RankGroup> {
    const connection = await connect({ servers: url, maxReconnectAttempts: -1, reconnectTimeWait: 50 })
    return new RankGroup(connection, way, options)
  }

  private constructor(connection: NatsConnection, url: string, options: GroupOptions) {
    this.connection = connection
    this.epoch = options.epoch ?? 1
    this.subjects = groupSubjects({ deployment: options.name, epoch: this.epoch, group: "base" })
    this.processes = Array.from({ length: options.ranks }, (_, rank) => spawnRank(url, options, rank))
  }

  /** Ends when every rank says that it is ready; fails as soon as one says that it cannot, or ends. */
  async ready(): Promise<void> {
    const gone = Promise.race(
      this.processes.map(
        (child, rank) =>
          new Promise<never>((_, no) => child.once("exit", (code) => no(new Error(`rank ${rank}: ${code}`)))),
      ),
    )
    gone.catch(() => {})
    const heard = async () => {
      for await (const { data } of this.connection.subscribe(this.subjects.beats)) {
        const beat = Result.getOrThrow(beats.decode(data))
        this.beats.set(beat.rank, beat)
        if (beat.state === "failed") throw new Error(beat.reason)
        if ([...this.processes.keys()].every((rank) => this.beats.get(rank)?.state === "ready")) return
      }
    }
    await Promise.race([heard(), gone])
  }

  /** Sends bytes as a pass command, and gives the first answer. As a supervisor does, it asks again what was not heard. */
  async send(message: Uint8Array): Promise<PassAnswer> {
    for (;;) {
      try {
        const { data } = await this.connection.request(this.subjects.pass, message, { timeout: ANSWER_MILLIS })
        return Result.getOrThrow(answers.decode(data))
      } catch (error) {
        if (!(error instanceof RequestError && error.isNoResponders())) throw error
        await this.beat(() => true) // from a rank that is connected again
      }
    }
  }

  /** The next beat that is wanted. */
  async beat(wanted: (beat: RankBeat) => boolean): Promise<RankBeat> {
    for await (const { data } of this.connection.subscribe(this.subjects.beats)) {
      const beat = Result.getOrThrow(beats.decode(data))
      if (wanted(beat)) return beat
    }
    throw new Error("the connection was closed")
  }

  command(command: PassCommand): Promise<PassAnswer> {
    return this.send(commands.encode(command))
  }

  control(control: GroupControl): void {
    this.connection.publish(this.subjects.control, controls.encode(control))
  }

  /** Numbers of the next pass. */
  next() {
    this.#pass += 1
    return { epoch: this.epoch, pass: this.#pass, attempt: 0 }
  }

  /** With the token that comes after these, their log-probabilities are told. */
  async prefill(
    session: string,
    tokens: ReadonlyArray<number>,
    sampling = GREEDY,
    following: number | null = null,
  ): Promise<ReadonlyArray<Prefilled>> {
    const answers: Array<Prefilled> = []
    for (let committed = 0; committed === 0 || committed < tokens.length; committed += CHUNK) {
      const chunk = tokens.slice(committed, committed + CHUNK)
      const next = tokens[committed + CHUNK] ?? following
      const scored = following === null || next === null ? {} : { scored: { following: next, alternatives: 3 } }
      const command = {
        _tag: "Prefill" as const,
        session,
        ...this.next(),
        committed,
        tokens: chunk,
        sampling,
        ...scored,
      }
      answers.push(expectTag(await this.command(command), "Prefilled"))
    }
    return answers
  }

  async verify(session: string, rest: Rest<PassCommand & { _tag: "Verify" }>): Promise<Verified> {
    return expectTag(await this.command({ _tag: "Verify", session, ...this.next(), ...rest }), "Verified")
  }

  /** One session's tree. */
  async draft(
    session: string,
    { fuzzy, ...rest }: Omit<SessionDraft, "session"> & Pick<Draft, "fuzzy">,
  ): Promise<DraftedTree> {
    const sessions = [{ session, ...rest }] as const
    return expectTag(await this.command({ _tag: "Draft", ...this.next(), fuzzy, sessions }), "Drafted").trees[0]
  }

  async decode(session: string, rest: Rest<PassCommand & { _tag: "Decode" }>): Promise<Decoded> {
    return expectTag(await this.command({ _tag: "Decode", session, ...this.next(), ...rest }), "Decoded")
  }

  /** Plain decoding: the first token by a pass of its own, the others by one command. */
  async greedy(session: string, prompt: ReadonlyArray<number>, count: number): Promise<ReadonlyArray<number>> {
    const committed = prompt.length - 1
    await this.prefill(session, prompt.slice(0, committed))
    const first = await this.verify(session, {
      committed,
      acceptedRows: [],
      tokens: prompt.slice(committed),
      parents: [-1],
    })
    const [token = -1] = first.choices
    const rest = { committed: prompt.length, acceptedRows: [0], token, steps: count - 1 }
    const { tokens } = await this.decode(session, rest)
    this.control({ _tag: "Release", session })
    return [token, ...tokens]
  }

  /** Drains the ranks; their exit codes. */
  async stop(): Promise<ReadonlyArray<number | null>> {
    this.signal("SIGTERM")
    return Promise.all(this.processes.map(exit))
  }

  signal(signal: NodeJS.Signals, ranks: Iterable<number> = this.processes.keys()): void {
    for (const rank of ranks) this.processes[rank]?.kill(signal)
  }

  async [Symbol.asyncDispose]() {
    await this.stop()
    await this.connection.close()
  }
}

/** The exit code of a process that has ended or will; null after a signal. */
export const exit = (child: ChildProcess): Promise<number | null> =>
  new Promise((done) => {
    if (child.exitCode !== null || child.signalCode !== null) done(child.exitCode)
    else child.once("exit", (code) => done(code))
  })

/** What a rank's process is started with. */
export const environmentOf = (url: string, options: GroupOptions, rank: number): NodeJS.ProcessEnv => {
  const deployment: Deployment = {
    ...{ name: options.name, draft: null, fuzzy: options.fuzzy ?? 4, deterministic: true, context: 512 },
    base: {
      ...{ name: "base", model: options.model, strategy: options.strategy, ranks: options.ranks },
      ...{ threads: 1, device: "CPU" },
    },
  }
  return {
    ...process.env,
    [ENVIRONMENT.nats]: url,
    [ENVIRONMENT.deployment]: JSON.stringify(deployment),
    [ENVIRONMENT.group]: "base",
    [ENVIRONMENT.rank]: `${rank}`,
    [ENVIRONMENT.epoch]: `${options.epoch ?? 1}`,
  }
}

export const ENTRY = join(ROOT, "actors/rank.ts")

const spawnRank = (url: string, options: GroupOptions, rank: number): ChildProcess =>
  spawn(process.execPath, [ENTRY], {
    stdio: ["pipe", "inherit", "inherit"], // the pipe: a rank ends with the test that started it
    env: environmentOf(url, options, rank),
  })

const expectTag = <T extends PassAnswer["_tag"]>(
  answer: PassAnswer,
  tag: T,
): Extract<PassAnswer, { readonly _tag: T }> => {
  if (isTagged(answer, tag)) return answer
  throw answer._tag === "Refused" ? answer.error : new Error(`expected ${tag}, got ${answer._tag}`)
}

const isTagged = <T extends PassAnswer["_tag"]>(
  answer: PassAnswer,
  tag: T,
): answer is Extract<PassAnswer, { readonly _tag: T }> => answer._tag === tag
