// What a benchmark is: a question, the ratios that answer it, and a run.

export interface RunOptions {
  readonly quick: boolean
  readonly say: (line: string) => void // progress
}

export interface Report {
  readonly ratios: Readonly<Record<string, number>>
  readonly failures?: ReadonlyArray<string> // what should hold and does not; with one, bench/RESULTS.md stays as it is
  readonly details: unknown // everything else of the JSON object
  readonly title: string
  readonly markdown: string // the section of RESULTS.md, without its title
}

export interface Benchmark {
  readonly name: string
  readonly question: string
  readonly ratios: Readonly<Record<string, string>>
  readonly run: (options: RunOptions) => Promise<Report>
}
