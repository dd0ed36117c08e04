// The network: every process has one connection to the server in the middle, as with NATS. A message is on the way for a
// while; when a connection breaks, what is on the way on either side of it is lost, and its process is told. Faults beyond
// what NATS does can be drawn as well: a single message lost, doubled, or out of order.
import { Effect } from "effect"
import type { Process, World } from "./world.ts"

export interface Faults {
  readonly delayMillis: number // of a message, about
  readonly loss: number // each is the probability for one message
  readonly double: number
  readonly late: number // much later than others, and so out of order
}

/** A connection, as its process sees it. */
interface Link {
  up: boolean
  life: number // counts the connections
  readonly heard: Array<(up: boolean) => void>
  readonly arrivals: Map<Process | null, number> // when the last message to each other side arrives: they keep their order
}

/** What the server says, and how long it takes to be able to. */
export interface Answered<A> {
  readonly answer: () => A
  readonly millis: number
}

/** An answer that the server owes is lost with the connection; after this time a question is given up anyhow. */
const PATIENCE_MILLIS = 5_000

const DIAL_MILLIS = 150

export class Network {
  readonly #world: World
  readonly #links = new Map<Process, Link>()
  faults: Faults
  #serverUp = true

  constructor(world: World, faults: Faults) {
    this.#world = world
    this.faults = faults
  }

  connect(process: Process): void {
    this.#links.set(process, { up: this.#serverUp, life: 0, heard: [], arrivals: new Map() })
  }

  isUp(process: Process): boolean {
    return this.#links.get(process)?.up ?? false
  }

  /** How many it has had. */
  connections(process: Process): number {
    return this.#links.get(process)?.life ?? 0
  }

  /** Calls with what becomes of the connection. */
  onEvent(process: Process, heard: (up: boolean) => void): void {
    this.#links.get(process)?.heard.push(heard)
  }

  /** To another process, or to the server (null). */
  send(from: Process, to: Process | null, deliver: () => void): void {
    const { loss, double } = this.faults
    const { random } = this.#world
    if (!this.isUp(from) || (to !== null && !this.isUp(to)) || random.chance(loss)) return
    this.#carry(from, to, deliver)
    if (random.chance(double)) this.#carry(from, to, deliver)
  }

  /** From the server. */
  reply(to: Process, deliver: () => void): void {
    if (this.isUp(to) && !this.#world.random.chance(this.faults.loss)) this.#carry(null, to, deliver)
  }

  /** From the server to a follower, which notices what is missing or too early by its number, and has it sent again. */
  tell(to: Process, deliver: () => void): void {
    if (this.isUp(to)) this.#carry(null, to, deliver, true)
  }

  /** A question to the server, which does `serve` when it arrives and answers after `diskMillis`. Fails where the answer is lost. */
  call<A>(process: Process, serve: () => A, diskMillis: () => number): Effect.Effect<A, "lost"> {
    return this.callSlowly(process, () => {
      const answer = serve()
      return { answer: () => answer, millis: diskMillis() }
    })
  }

  /** One whose answer is known only when it is given. */
  callSlowly<A>(process: Process, serve: () => Answered<A>): Effect.Effect<A, "lost"> {
    return Effect.callback<A, "lost">((resume) => {
      let open = true
      const end = (exit: Effect.Effect<A, "lost">): void => {
        if (open) resume(exit)
        open = false
      }
      const life = this.isUp(process) ? this.#links.get(process)?.life : undefined
      this.send(process, null, () => {
        const { answer, millis } = serve()
        this.#world.after(millis, null, () => {
          const given = answer()
          this.reply(process, () => end(Effect.succeed(given)))
        })
      })
      // As the product does: given up as soon as the connection is back.
      const watch = (): void => {
        if (!open) return
        const now = this.#links.get(process)
        if (now?.up === true && now.life !== life) end(Effect.fail("lost"))
        else process.after(50, watch)
      }
      watch()
      process.after(PATIENCE_MILLIS, () => end(Effect.fail("lost")))
      return Effect.sync(() => {
        open = false
      })
    })
  }

  /** A connection breaks, and is dialled anew. */
  cut(process: Process, millis: number): void {
    this.#down(process)
    this.#world.after(millis, null, () => this.#up(process))
  }

  /** The server is gone for a while: all connections with it. */
  restart(millis: number): void {
    this.#world.note(() => `the server restarts, away for ${millis.toFixed(0)} ms`)
    this.#serverUp = false
    for (const process of this.#links.keys()) this.#down(process)
    this.#world.after(millis, null, () => {
      this.#serverUp = true
      for (const process of this.#links.keys()) {
        this.#world.after(this.#world.random.between(0, DIAL_MILLIS), null, () => this.#up(process))
      }
    })
  }

  #down(process: Process): void {
    const link = this.#links.get(process)
    if (link === undefined || !link.up) return
    this.#world.note(() => `${process.name} loses its connection`)
    link.up = false
    link.life++
    link.arrivals.clear()
    for (const heard of link.heard) process.after(0, () => heard(false))
  }

  #up(process: Process): void {
    const link = this.#links.get(process)
    if (link === undefined || link.up || !this.#serverUp) return
    this.#world.note(() => `${process.name} is connected again`)
    link.up = true
    for (const heard of link.heard) process.after(0, () => heard(true))
  }

  #carry(from: Process | null, to: Process | null, deliver: () => void, inOrder = false): void {
    const [sender, receiver] = [from, to].map((process) => (process === null ? undefined : this.#links.get(process)))
    const lives = [sender?.life, receiver?.life]
    const { random } = this.#world
    const late = random.chance(this.faults.late) && !inOrder
    const millis = 0.1 + random.exponential(late ? 50 * this.faults.delayMillis : this.faults.delayMillis)
    const order = (receiver ?? sender)?.arrivals
    const arrival = Math.max(this.#world.now + millis, late ? 0 : (order?.get(from) ?? 0))
    if (!late) order?.set(from, arrival)
    this.#world.after(arrival - this.#world.now, to, () => {
      if (sender?.life === lives[0] && receiver?.life === lives[1]) deliver()
    })
  }
}
