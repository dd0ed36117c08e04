// A simulated supervisor's way to a replica: its groups' questions and the ranks' attendance are the product's; which
// ranks join and which are given up follows the same rules as its links.
import { Effect, type Fiber, SubscriptionRef } from "effect"
import type { Models } from "../../src/generation/services.ts"
import { Attendance } from "../../src/group/attendance.ts"
import { ASK_AGAIN_MILLIS, type Group, passesOf } from "../../src/group/group.ts"
import { type Asker, type Question, type QuestionOutcome, Questions } from "../../src/group/questions.ts"
import type { Tokenizer } from "../../src/model/index.ts"
import { draftBatcher } from "../../src/replica/draftBatcher.ts"
import type { Ready } from "../../src/replica/link.ts"
import { prefixCache } from "../../src/replica/prefixCache.ts"
import { BEAT_MILLIS, type RankBeat } from "../../src/wire/beat.ts"
import { type GroupControl, type PassAnswer, type PassCommand, sessionsOf } from "../../src/wire/pass.ts"
import type { Mutation } from "./mutation.ts"
import type { Network } from "./network.ts"
import type { Asking, GroupShape, RankActor } from "./rank.ts"
import type { Process } from "./world.ts"

const AGAIN_MILLIS = 250
const FLUSH_AGAIN_MILLIS = 100

export interface ReplicaShape {
  readonly epoch: number
  readonly base: GroupShape
  readonly draft: GroupShape | null
  readonly prefill: GroupShape | null // of the base's shape
}

export const groupsOf = ({ base, draft, prefill }: ReplicaShape): ReadonlyArray<GroupShape> =>
  [base, draft, prefill].filter((shape) => shape !== null)

export interface LinkOptions {
  readonly process: Process
  readonly network: Network
  readonly replica: ReplicaShape
  readonly tokenizer: Tokenizer
  readonly ranks: (shape: GroupShape) => ReadonlyArray<RankActor> // that are there
  readonly changed: () => void
  readonly answered: (command: PassCommand, answer: PassAnswer) => void
  readonly mutation: Mutation | null
  readonly keepMillis: number
}

/** One joining of a group: ends when a rank is lost, or is another process than it was. */
interface Joined {
  readonly shape: GroupShape
  readonly group: Group
  readonly questions: Questions
  readonly attendance: Attendance
  readonly pids: Map<number, number>
}

export class SimulatedLink {
  readonly #of: LinkOptions
  readonly #learned: Models["Service"]["learned"] = { current: undefined }
  #joined: ReadonlyArray<Joined> = []
  #ready: Fiber.Fiber<void> | null = null
  models: Ready | null = null
  draining = false
  sessions = 0
  reserved = 0 // tokens that they may come to

  constructor(of: LinkOptions) {
    this.#of = of
    of.network.onEvent(of.process, (up) => this.#connection(up))
    this.#join()
    const tick = (): void => {
      this.#tick()
      of.process.after(BEAT_MILLIS, tick)
    }
    of.process.after(BEAT_MILLIS, tick)
  }

  get epoch(): number {
    return this.#of.replica.epoch
  }

  load(): number {
    return this.sessions
  }

  shared(prompt: ReadonlyArray<number>): number {
    return this.models?.prefixes.shared(prompt) ?? 0
  }

  beat({ shape, rank, process }: RankActor, connections: number): void {
    const joined = this.#joined.find((joined) => joined.shape === shape)
    if (joined === undefined) return
    const { attendance, questions, pids } = joined
    const { pid } = process
    if (attendance.heard({ rank, pid, connections, state: "ready" })) questions.lost()
    questions.gather(attendance.gathered)
    pids.set(rank, process.pid)
    if (attendance.lost !== undefined) return this.#lose(attendance.lost)
    const ready = this.#joined.every(({ shape, pids }) => pids.size === shape.ranks)
    if (this.models === null && ready) this.#become()
  }

  #become(): void {
    const { process, tokenizer, changed } = this.#of
    const named = (name: string) => this.#joined.find(({ shape }) => shape.group === name)
    const [base, draft, prefill] = [named("base"), named("draft"), named("prefill")]
    if (base === undefined) return
    const ready = Effect.gen({ self: this }, function* () {
      this.models = {
        ...{ base: base.group, prefill: prefill?.group ?? null, tokenizer, learned: this.#learned },
        draft: draft === undefined ? null : yield* draftBatcher(draft.group, draft.shape.strategy),
        prefixes: yield* prefixCache(this.#of.keepMillis),
      }
      changed()
      return yield* Effect.never
    })
    this.#ready = process.fork(Effect.scoped(ready))
  }

  #join(): void {
    this.#joined = groupsOf(this.#of.replica).map((shape) => this.#joinGroup(shape))
  }

  #joinGroup(shape: GroupShape): Joined {
    const { process } = this.#of
    const questions = new Questions(shape.group, this.epoch)
    const attendance = new Attendance(shape.ranks, () => false, process.world.now)
    const last = process.world.random.integer(0, 2 ** 31)
    const group: Group = {
      name: shape.group,
      ...passesOf({ group: shape.group, last }, (command) => this.#ask(shape, questions, command)),
      control: (control) => Effect.sync(() => this.#insist(shape, control)),
      beats: Effect.runSync(SubscriptionRef.make<ReadonlyMap<number, RankBeat>>(new Map())),
      ready: Effect.void,
      silent: Effect.never,
      move: () => Effect.void,
      epoch: () => this.epoch,
    }
    return { shape, group, questions, attendance, pids: new Map() }
  }

  #ask(shape: GroupShape, questions: Questions, command: PassCommand) {
    return Effect.callback<{ readonly outcome: QuestionOutcome; readonly bytes: number }>((resume) => {
      const asker: Asker = {
        send: (question) => this.#send(shape, questions, question),
        end: (outcome) => resume(Effect.succeed({ outcome, bytes: 0 })),
      }
      questions.ask(command, asker)
      return Effect.sync(() => questions.withdraw(asker))
    })
  }

  #send(shape: GroupShape, questions: Questions, question: Question): void {
    if (!questions.isOpen(question)) return
    const { process, network, answered } = this.#of
    const listeners = this.#of.ranks(shape).filter(({ process }) => process.alive && network.isUp(process))
    const { _tag, pass, attempt } = question.command
    const session = sessionsOf(question.command).map(({ session }) => session)
    process.world.note(
      () => `${process.name} asks ${shape.group} ${shape.replica}: ${_tag} of ${session}, pass ${pass}.${attempt}`,
    )
    const asking: Asking = {
      from: process,
      heard: (answer) => {
        process.world.note(() => `${process.name} hears ${toldBy(answer)} to pass ${pass}.${attempt}`)
        if (questions.isOpen(question)) answered(question.command, answer)
        questions.answered(question, answer)
      },
    }
    for (const rank of listeners) network.send(process, rank.process, () => rank.command(question.command, asking))
    const again = listeners.length === 0 ? BEAT_MILLIS : ASK_AGAIN_MILLIS
    process.after(again, () => this.#send(shape, questions, question))
  }

  /** Said again until the server has it. */
  #insist(shape: GroupShape, control: GroupControl): void {
    if (this.draining && this.#of.mutation === "what has moved away is not freed") return
    const { process, network, ranks } = this.#of
    for (const rank of ranks(shape)) network.send(process, rank.process, () => rank.control(control))
    const flush = network.call(
      process,
      () => undefined,
      () => 0,
    )
    process.fork(flush, (exit) => {
      if (exit._tag === "Failure") process.after(FLUSH_AGAIN_MILLIS, () => this.#insist(shape, control))
    })
  }

  #tick(): void {
    const { now } = this.#of.process.world
    for (const { attendance } of this.#joined) attendance.tick(now)
    const lost = this.#joined.find(({ attendance }) => attendance.lost !== undefined)
    if (lost !== undefined) this.#lose(lost.attendance.lost ?? "")
  }

  #connection(up: boolean): void {
    for (const { attendance, questions } of this.#joined) {
      const back = attendance.connection(up)
      questions.gather(attendance.gathered)
      if (back) questions.lost()
    }
  }

  /** Joins again, and has to hear of every rank then. */
  #lose(reason: string): void {
    const { process, network, changed } = this.#of
    for (const { questions } of this.#joined) questions.leave(reason)
    this.#joined = []
    this.models = null
    this.#ready?.interruptUnsafe()
    changed()
    process.after(AGAIN_MILLIS, () => {
      this.#join()
      if (!network.isUp(process)) this.#connection(false)
    })
  }
}

const toldBy = (answer: PassAnswer): string => (answer._tag === "Refused" ? answer.error.message : answer._tag)
