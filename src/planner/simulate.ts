// Runs the programs of a group's ranks in virtual time: a discrete-event simulation of devices and links. A program is a
// list of steps, and what comes first is decided by the time at which it can happen, so ports are taken in the order of
// time and a rank that waits for a slower one waits as long as it would.
import { type Hardware, type Link, machineOf } from "./hardware.ts"

/** What a rank does next. Exchanges are numbered by hop, as in a pass: a receiver takes the message of that hop. */
export type Step =
  | { readonly step: "compute"; readonly seconds: number }
  | { readonly step: "send"; readonly hop: number; readonly to: ReadonlyArray<number>; readonly bytes: number }
  | { readonly step: "receive"; readonly hop: number; readonly from: ReadonlyArray<number> }

export interface Outcome {
  readonly seconds: number // until the leader, rank 0, has done its last step
  readonly busy: ReadonlyArray<number> // seconds that each rank has computed
  readonly hops: number // exchanges, one after the other
  readonly messages: number
  readonly bytes: number // of all messages
}

export class Stuck extends Error {
  override readonly name = "Stuck"
}

export const simulate = (programs: ReadonlyArray<ReadonlyArray<Step>>, hardware: Hardware): Outcome => {
  const network = new Network(hardware)
  const ranks = programs.map(() => ({ at: 0, next: 0, busy: 0 }))
  for (;;) {
    const chosen = earliest(ranks, programs, network)
    if (chosen === undefined) break
    const { rank, ready, step } = chosen
    const state = ranks[rank]
    if (state === undefined) break
    state.next += 1
    state.at = ready
    if (step.step === "compute") {
      state.at += step.seconds
      state.busy += step.seconds
    } else if (step.step === "send") network.send(rank, step, ready)
  }
  const waiting = ranks.findIndex(({ next }, rank) => next < (programs[rank]?.length ?? 0))
  if (waiting !== -1) throw new Stuck(`rank ${waiting} waits for a message that nobody sends`)
  const { hops, messages, bytes } = network
  return { seconds: ranks[0]?.at ?? 0, busy: ranks.map(({ busy }) => busy), hops: hops.size, messages, bytes }
}

/** The rank whose next step can begin first. */
const earliest = (
  ranks: ReadonlyArray<{ readonly at: number; readonly next: number }>,
  programs: ReadonlyArray<ReadonlyArray<Step>>,
  network: Network,
) => {
  let chosen: { readonly rank: number; readonly ready: number; readonly step: Step } | undefined
  for (const [rank, { at, next }] of ranks.entries()) {
    const step = programs[rank]?.[next]
    if (step === undefined || (chosen !== undefined && at >= chosen.ready)) continue
    const ready = step.step === "receive" ? Math.max(at, network.arrivalOf(rank, step)) : at
    if (Number.isFinite(ready) && (chosen === undefined || ready < chosen.ready)) chosen = { rank, ready, step }
  }
  return chosen
}

/** Messages on their way. A port sends one after the other; the way itself takes as many as come. */
class Network {
  readonly hops = new Set<number>()
  messages = 0
  bytes = 0
  readonly #hardware: Hardware
  readonly #machines: ReadonlyArray<number>
  readonly #inboxes = new Map<number, { came: number; latest: number }>() // of a hop and a rank
  readonly #free = new Map<string, number>() // when each port has sent what it was given

  constructor(hardware: Hardware) {
    this.#hardware = hardware
    this.#machines = machineOf(hardware)
  }

  send(from: number, { hop, to, bytes }: Extract<Step, { step: "send" }>, at: number): void {
    this.hops.add(hop)
    const sent = new Map<string, number>() // multicast: what a port has sent already
    for (const receiver of to) {
      const { link, port } = this.#way(from, receiver)
      const before = link.multicast ? sent.get(port) : undefined
      const gone = before ?? Math.max(at, this.#free.get(port) ?? 0) + bytes / link.bytesPerSecond
      if (before === undefined) {
        this.messages += 1
        this.bytes += bytes
        this.#free.set(port, gone)
        sent.set(port, gone)
      }
      this.#deliver(hop, receiver, gone + link.latencySeconds)
    }
  }

  #deliver(hop: number, rank: number, at: number): void {
    const { came, latest } = this.#inboxes.get(key(hop, rank)) ?? { came: 0, latest: 0 }
    this.#inboxes.set(key(hop, rank), { came: came + 1, latest: Math.max(latest, at) })
  }

  /** When all that a rank waits for is there; infinite while something has not been sent. */
  arrivalOf(rank: number, { hop, from }: Extract<Step, { step: "receive" }>): number {
    const { came, latest } = this.#inboxes.get(key(hop, rank)) ?? { came: 0, latest: 0 }
    return came < from.length ? Number.POSITIVE_INFINITY : latest
  }

  #way(from: number, to: number): { readonly link: Link; readonly port: string } {
    const machine = this.#machines[from] ?? 0
    const within = this.#hardware.machines[machine]?.within
    return machine === this.#machines[to] && within !== undefined
      ? { link: within, port: `device ${from}` }
      : { link: this.#hardware.between, port: `machine ${machine}` }
  }
}

const key = (hop: number, rank: number): number => hop * 65536 + rank
