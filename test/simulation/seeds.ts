// Seeds that a simulation has failed with, and what was found with each. They are run before all others.

export interface Failed {
  readonly seed: number
  readonly found: string
}

export const FAILED: ReadonlyArray<Failed> = []
