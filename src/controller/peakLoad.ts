// The highest load within a time: scaling down waits until the replica has not been needed for this long.

interface Sample {
  readonly load: number
  at: number // seen last, milliseconds
}

export class PeakLoad {
  #samples: Array<Sample> = []

  note(now: number, load: number): void {
    const last = this.#samples.at(-1)
    if (last?.load === load) last.at = now
    else this.#samples.push({ load, at: now })
  }

  /** Forgets what is older: times do not grow. */
  over(now: number, millis: number): number {
    this.#samples = this.#samples.filter(({ at }, i) => now - at < millis || i === this.#samples.length - 1)
    return Math.max(0, ...this.#samples.filter(({ at }) => now - at < millis).map(({ load }) => load))
  }
}
