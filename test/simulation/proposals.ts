// What a cluster of three servers does with a write: the leader proposes it, and it is there when two of them have it. Until
// then a second one under the same name is refused, though what it has lost to cannot be read yet.
import type { Answered } from "./network.ts"
import type { World } from "./world.ts"

export const done = <A>(answer: A, millis: number): Answered<A> => ({ answer: () => answer, millis })

export class Proposals {
  readonly #world: World
  readonly #open = new Map<string, ReadonlyArray<string>>() // ids by name
  #appliedBy = 0

  constructor(world: World) {
    this.#world = world
  }

  /** Whose proposal under this name is not applied yet. */
  holder(name: string): string | undefined {
    return this.#open.get(name)?.at(-1)
  }

  /** In order: what was proposed later is applied later. */
  propose<A>(name: string, id: string, millis: number, apply: () => A): Answered<A> {
    const { now } = this.#world
    this.#appliedBy = Math.max(now + millis, this.#appliedBy)
    this.#open.set(name, [...(this.#open.get(name) ?? []), id])
    let applied: { readonly result: A } | undefined
    this.#world.after(this.#appliedBy - now, null, () => {
      this.#open.set(name, this.#open.get(name)?.slice(1) ?? [])
      applied = { result: apply() }
    })
    const answer = (): A => {
      if (applied === undefined) throw new Error(`${name} is answered before it is applied`)
      return applied.result
    }
    return { answer, millis: this.#appliedBy - now }
  }
}
