// The passes that a group is asked for and has not answered: which of them are sent, sent again under the same number, or
// given up. Plain data and callbacks; group.ts sends, and tells what it hears.
import { GroupSilent, type MalformedMessage } from "../wire/errors.ts"
import type { PassAnswer, PassCommand } from "../wire/pass.ts"

/** How often a pass is tried again after a lost message. */
const ATTEMPTS = 4

/** What became of a question: an answer, or that none will ever come. */
export type QuestionOutcome = PassAnswer | MalformedMessage | GroupSilent

/** The asker. `send` may be called again, with a higher attempt, until `end` is called, once. */
export interface Asker {
  readonly send: (question: Question) => void
  readonly end: (outcome: QuestionOutcome) => void
}

export interface Question {
  readonly command: PassCommand // as it was sent last
  readonly asker: Asker
}

export class Questions {
  readonly #group: string
  #epoch: number
  readonly #sent = new Map<Asker, Question>()
  readonly #waiting = new Map<Asker, Question>() // for ranks that are not back yet
  #gathered = true
  #gone: GroupSilent | undefined

  constructor(group: string, epoch: number) {
    this.#group = group
    this.#epoch = epoch
  }

  ask(command: PassCommand, asker: Asker): void {
    this.#send({ command, asker })
  }

  /** Nothing waits for the answer any more. */
  withdraw(asker: Asker): void {
    this.#sent.delete(asker)
    this.#waiting.delete(asker)
  }

  /** Whether an answer to the question, as it was sent then, is still waited for. */
  isOpen(question: Question): boolean {
    return this.#sent.get(question.asker) === question
  }

  answered(question: Question, answer: PassAnswer | MalformedMessage): void {
    if (!this.isOpen(question)) return
    const again = answer._tag === "Refused" && answer.error._tag === "PeerSilent"
    if (again) this.#repeat(question, answer)
    else this.#end(question, answer)
  }

  /** What was on the way is lost, question or answer: the connection was, or a rank is back that has not heard it. */
  lost(): void {
    const silent = this.#silent("it was lost again and again", true)
    for (const question of [...this.#sent.values()]) this.#repeat(question, silent)
  }

  /** Whether every rank is there to hear: one that is not would not hear a command that its peers hear, and they would wait for it in vain. */
  gather(gathered: boolean): void {
    this.#gathered = gathered
    if (!gathered) return
    const waiting = [...this.#waiting.values()]
    this.#waiting.clear()
    for (const question of waiting) this.#send(question)
  }

  /** The group goes on in another epoch, where nothing of what was asked has been heard. */
  move(epoch: number): void {
    this.#epoch = epoch
    this.lost()
  }

  /** The group is gone for good, and the first reason counts. */
  leave(reason: string, blameless = false): void {
    this.#gone ??= this.#silent(reason, blameless)
    for (const question of [...this.#sent.values(), ...this.#waiting.values()]) this.#end(question, this.#gone)
  }

  #send(question: Question): void {
    if (this.#gone !== undefined) return question.asker.end(this.#gone)
    if (!this.#gathered) return void this.#waiting.set(question.asker, question)
    const sent = { ...question, command: { ...question.command, epoch: this.#epoch } }
    this.#sent.set(question.asker, sent)
    question.asker.send(sent)
  }

  #repeat(question: Question, otherwise: PassAnswer | GroupSilent): void {
    const { command, asker } = question
    if (command.attempt === ATTEMPTS) return this.#end(question, otherwise)
    this.#sent.delete(asker)
    this.#send({ command: { ...command, attempt: command.attempt + 1 }, asker })
  }

  #end({ asker }: Question, outcome: QuestionOutcome): void {
    this.withdraw(asker)
    asker.end(outcome)
  }

  #silent(reason: string, blameless: boolean): GroupSilent {
    return new GroupSilent({ group: this.#group, reason, ...(blameless ? { blameless } : {}) })
  }
}
