// Seeds that a simulation of these worlds has failed with, and what was found with each. They are run before all others.

export interface Failed {
  readonly seed: number
  readonly found: string
}

export const FAILED: ReadonlyArray<Failed> = [
  {
    seed: 39,
    found: "a supervisor whose server went away as it became the controller never was it again, nor was another",
  },
]
