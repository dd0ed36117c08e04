// The bus over the simulated network: subjects with wildcards, queue groups, requests that nobody hears, as NATS has them.
// What is published goes to the server, and from there to each listener whose connection stands; what is on the way when a
// connection breaks is lost.
import { Effect, PubSub, SubscriptionRef } from "effect"
import { Bus, type Message, Unanswered } from "../../src/bus/bus.ts"
import type { Network } from "./network.ts"
import type { Process } from "./world.ts"

interface Subscription {
  readonly process: Process
  readonly pattern: ReadonlyArray<string>
  readonly heard: (message: Message) => void
  readonly queue: string | undefined
  readonly echo: boolean
}

const NOTHING = new Uint8Array(0)

/** Of ranks' rows of KV some need more than one message. */
const MAX_PAYLOAD = 1024

export class Switchboard {
  readonly #network: Network
  readonly #subscriptions = new Set<Subscription>()

  constructor(network: Network) {
    this.#network = network
  }

  add(subscription: Subscription): void {
    this.#subscriptions.add(subscription)
  }

  remove(subscription: Subscription): void {
    this.#subscriptions.delete(subscription)
  }

  /** A process that is no more listens no more. */
  forget(process: Process): void {
    for (const one of this.#subscriptions) if (one.process === process) this.#subscriptions.delete(one)
  }

  publish(from: Process, message: Message): void {
    this.#network.send(from, null, () => this.#route(from, message))
  }

  #route(from: Process, message: Message): void {
    const tokens = message.subject.split(".")
    const listening = [...this.#subscriptions].filter(
      ({ process, pattern, echo }) =>
        process.alive && this.#network.isUp(process) && (echo || process !== from) && matches(pattern, tokens),
    )
    const groups = new Map<string, Array<Subscription>>()
    for (const one of listening) {
      if (one.queue === undefined) this.#deliver(one, message)
      else groups.set(one.queue, [...(groups.get(one.queue) ?? []), one])
    }
    for (const [first, ...more] of groups.values()) {
      if (first !== undefined) this.#deliver(from.world.random.pick([first, ...more]), message)
    }
    if (listening.length > 0 || message.reply === undefined || !message.reply.startsWith("_INBOX.")) return
    const nobody: Message = { subject: message.reply, data: NOTHING, headers: { get: () => "503" } }
    for (const one of this.#subscriptions) {
      if (one.process === from && one.pattern.join(".") === message.reply) this.#deliver(one, nobody)
    }
  }

  #deliver(to: Subscription, message: Message): void {
    this.#network.reply(to.process, () => (this.#subscriptions.has(to) ? to.heard(message) : undefined))
  }
}

const matches = (pattern: ReadonlyArray<string>, tokens: ReadonlyArray<string>): boolean => {
  for (const [i, part] of pattern.entries()) {
    if (part === ">") return tokens.length > i
    if (i >= tokens.length || (part !== "*" && part !== tokens[i])) return false
  }
  return pattern.length === tokens.length
}

export interface BusOptions {
  readonly process: Process
  readonly network: Network
  readonly switchboard: Switchboard
  readonly echo?: boolean // whether it hears what it publishes
  /** What this process says goes out as this, to there; for breakages on purpose. */
  readonly mutated?: (message: Message) => Message
  /** Sees each answer beside its question. */
  readonly answered?: (question: Message, answer: Message) => void
}

export const busOf = ({ process, network, switchboard, ...options }: BusOptions): Bus["Service"] => {
  const { echo = true, mutated = (message) => message, answered } = options
  const connected = Effect.runSync(SubscriptionRef.make(network.isUp(process)))
  const disconnects = Effect.runSync(PubSub.sliding<void>(1))
  network.onEvent(process, (up) => {
    process.fork(SubscriptionRef.set(connected, up))
    if (!up) process.fork(PubSub.publish(disconnects, undefined))
  })
  let inboxes = 0
  const inbox = () => `_INBOX.${process.pid}.${++inboxes}`
  const subscription = (subject: string, heard: (message: Message) => void, queue?: string): Subscription => ({
    ...{ process, heard, queue, echo },
    pattern: subject.split("."),
  })
  const publish = (subject: string, data: Uint8Array = NOTHING, reply?: string): void =>
    switchboard.publish(process, mutated({ subject, data: data.slice(), reply }))
  const bus: Bus["Service"] = Bus.of({
    ...{ publish, inbox, connected, disconnects },
    respond: ({ reply = "" }, data) => (reply === "" ? undefined : publish(reply, data)),
    subscribe: (subject, heard, { queue } = {}) =>
      Effect.asVoid(
        Effect.acquireRelease(
          Effect.sync(() => {
            const one = subscription(subject, heard, queue)
            switchboard.add(one)
            return one
          }),
          (one) => Effect.sync(() => switchboard.remove(one)),
        ),
      ),
    request: (subject, data, { withinMillis }) =>
      Effect.callback<Message, Unanswered>((resume) => {
        const reply = inbox()
        const question = { subject, data: data.slice(), reply }
        const one = subscription(reply, (message) => {
          end()
          if (message.headers?.get("status") === "503") {
            return resume(Effect.fail(new Unanswered({ subject, reason: "nobody listens" })))
          }
          answered?.(question, message)
          resume(Effect.succeed(message))
        })
        const end = (): void => switchboard.remove(one)
        switchboard.add(one)
        switchboard.publish(process, question)
        process.after(withinMillis, () => {
          end()
          resume(Effect.fail(new Unanswered({ subject, reason: "timeout" })))
        })
        return Effect.sync(end)
      }),
    register: ({ subject, queue, answer }) =>
      Effect.gen(function* () {
        const runFork = Effect.runForkWith(yield* Effect.context())
        const heard = (message: Message): void => {
          const { data, headers, reply = "" } = message
          const told = Effect.map(answer(data, headers, reply), (given) =>
            given === null ? undefined : bus.respond(message, given.bytes),
          )
          runFork(told)
        }
        yield* bus.subscribe(subject, heard, queue === "" ? {} : { queue })
      }),
    flush: network
      .call(
        process,
        () => undefined,
        () => 0,
      )
      .pipe(Effect.mapError(() => new Unanswered({ subject: "the server", reason: "closed" }))),
    maxPayload: () => MAX_PAYLOAD,
  })
  return bus
}
