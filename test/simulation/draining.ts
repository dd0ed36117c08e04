// Which replicas drain: written by the controller, which is not simulated here, and followed by every supervisor.
import type { Network } from "./network.ts"
import type { Process } from "./world.ts"

type Heard = (epochs: ReadonlySet<number>) => void

export class Draining {
  readonly #network: Network
  readonly #epochs = new Map<number, number>() // how many drains of each are on
  readonly #followers = new Map<Process, Heard>()

  constructor(network: Network) {
    this.#network = network
  }

  begin(epoch: number): void {
    this.#count(epoch, 1)
  }

  end(epoch: number): void {
    this.#count(epoch, -1)
  }

  follow(process: Process, heard: Heard): void {
    this.#followers.set(process, heard)
    this.#network.onEvent(process, (up) => (up ? this.#tell(process, heard) : undefined))
    this.#tell(process, heard)
  }

  #count(epoch: number, more: 1 | -1): void {
    this.#epochs.set(epoch, (this.#epochs.get(epoch) ?? 0) + more)
    for (const [process, heard] of this.#followers) this.#tell(process, heard)
  }

  /** As it is when the word is sent. */
  #tell(process: Process, heard: Heard): void {
    const epochs = new Set([...this.#epochs].flatMap(([epoch, drains]) => (drains > 0 ? [epoch] : [])))
    if (epochs.size > 0 || this.#epochs.size > 0) this.#network.tell(process, () => heard(epochs))
  }
}
