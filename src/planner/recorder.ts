// Writes the programs of all ranks of a group at once, so that a strategy reads as what the group does. Blocks between two
// exchanges become one stretch, as on a rank.
import { type Hardware, machineOf } from "./hardware.ts"
import type { Step } from "./simulate.ts"

export class Recorder {
  readonly programs: ReadonlyArray<Array<Step>>
  readonly #pending: Array<number> // seconds of the stretch that each rank is in
  readonly #stretch: number
  readonly #hardware: Hardware
  readonly #machines: ReadonlyArray<number>
  #hop = 0

  constructor(hardware: Hardware, ranks: number, stretch: number) {
    this.#hardware = hardware
    this.#machines = machineOf(hardware)
    this.#stretch = stretch
    this.programs = Array.from({ length: ranks }, () => [])
    this.#pending = this.programs.map(() => 0)
  }

  compute(ranks: ReadonlyArray<number>, seconds: number): void {
    for (const rank of ranks) this.#pending[rank] = (this.#pending[rank] ?? 0) + seconds
  }

  /** One hop: `from` hands `bytes` to each of `to`. */
  hand(from: number, to: ReadonlyArray<number>, bytes: number): void {
    this.gather(new Map([[from, bytes]]), to)
  }

  /** One hop: each of `owners` sends its bytes to all `listeners` but itself; they wait for all. */
  gather(owners: ReadonlyMap<number, number>, listeners: ReadonlyArray<number>): void {
    this.#hop += 1
    for (const [rank, bytes] of owners) {
      const to = listeners.filter((listener) => listener !== rank)
      if (to.length > 0) this.#add(rank, { step: "send", hop: this.#hop, to, bytes })
    }
    for (const rank of listeners) {
      const from = [...owners.keys()].filter((owner) => owner !== rank)
      if (from.length > 0) this.#add(rank, { step: "receive", hop: this.#hop, from })
    }
  }

  /**
   * A gather by all ranks: each owner sends to all, one hop; or, where that is more than its port carries, a slice to each,
   * who sends it on to all, two hops. Whichever takes less.
   */
  share(owners: ReadonlyMap<number, number>, ranks: ReadonlyArray<number>): void {
    if (ranks.length < 2) return
    const total = [...owners.values()].reduce((sum, bytes) => sum + bytes, 0)
    const most = Math.max(...owners.values())
    if (!this.#slices(ranks, { whole: most, first: most, second: total })) return this.gather(owners, ranks)
    this.gather(new Map([...owners].map(([rank, bytes]) => [rank, bytes / ranks.length])), ranks)
    this.gather(new Map(ranks.map((rank) => [rank, total / ranks.length])), ranks)
  }

  /** A sum over ranks that all of them need: each sends its part to all, or sums up a slice and sends it on to all. */
  reduce(ranks: ReadonlyArray<number>, bytes: number): void {
    if (ranks.length < 2) return
    const all = (size: number) => this.gather(new Map(ranks.map((rank) => [rank, size])), ranks)
    if (!this.#slices(ranks, { whole: bytes, first: bytes, second: bytes })) return all(bytes)
    all(bytes / ranks.length)
    all(bytes / ranks.length)
  }

  /** Every rank's steps, the last stretch too. */
  finish(): ReadonlyArray<ReadonlyArray<Step>> {
    for (const rank of this.programs.keys()) this.#flush(rank)
    return this.programs
  }

  #add(rank: number, step: Step): void {
    this.#flush(rank)
    this.programs[rank]?.push(step)
  }

  #flush(rank: number): void {
    const seconds = this.#pending[rank] ?? 0
    if (seconds > 0) this.programs[rank]?.push({ step: "compute", seconds: this.#stretch + seconds })
    this.#pending[rank] = 0
  }

  /**
   * Whether two hops with slices of bytes take less than one with the whole. Counted is the port that waits longest: of the
   * slowest link that an all-to-all of these ranks crosses.
   */
  #slices(ranks: ReadonlyArray<number>, bytes: { whole: number; first: number; second: number }): boolean {
    const machines = ranks.map((rank) => this.#machines[rank] ?? 0)
    const [machine = 0] = machines
    const mine = machines.filter((other) => other === machine).length
    const others = ranks.length - mine
    const within = this.#hardware.machines[machine]?.within
    const link = others > 0 || within === undefined ? this.#hardware.between : within
    if (link.multicast) return false
    const messages = others > 0 ? mine * others : ranks.length - 1
    const { latencySeconds, bytesPerSecond } = link
    const hop = (size: number) => latencySeconds + (messages * size) / bytesPerSecond
    return hop(bytes.first / ranks.length) + hop(bytes.second / ranks.length) < hop(bytes.whole)
  }
}
