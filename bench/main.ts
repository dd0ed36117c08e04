// npm run bench -- NAME [--quick] [--json]
import { parseArgs } from "node:util"
import type { Benchmark } from "./benchmark.ts"
import { clients } from "./clients.ts"
import { coldStart } from "./coldStart.ts"
import { durability } from "./durability.ts"
import { easyspec } from "./easyspec.ts"
import { BenchFailed } from "./failure.ts"
import { load } from "./load.ts"
import { lossless } from "./lossless.ts"
import { machineFacts } from "./machine.ts"
import { paper } from "./paper.ts"
import { recovery } from "./recovery.ts"
import { sectionOf, writeSection } from "./results.ts"
import { speed } from "./speed.ts"

const BENCHMARKS: ReadonlyArray<Benchmark> = [
  easyspec,
  speed,
  lossless,
  load,
  coldStart,
  recovery,
  durability,
  clients,
  paper,
]

const help = () =>
  [
    "usage: npm run bench -- NAME [--quick] [--json]",
    "",
    "Measures, prints what it has found, and writes it into its section of bench/RESULTS.md.",
    "",
    "  --quick   a smaller run to see that all works; bench/RESULTS.md stays as it is",
    "  --json    prints one object: benchmark, date, quick, machine, ratios, details",
    ...BENCHMARKS.flatMap(({ name, question, ratios }) => [
      "",
      `${name}: ${question}`,
      "  ratios:",
      ...Object.entries(ratios).map(([ratio, meaning]) => `    ${ratio.padEnd(26)} ${meaning}`),
    ]),
    "",
  ].join("\n")

const parse = (args: ReadonlyArray<string>) => {
  const options = {
    quick: { type: "boolean" },
    json: { type: "boolean" },
    help: { type: "boolean", short: "h" },
  } as const
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true })
  } catch (error) {
    throw new Usage(error instanceof Error ? error.message : String(error))
  }
}

class Usage extends Error {}

const main = async (args: ReadonlyArray<string>): Promise<void> => {
  const { values, positionals } = parse(args)
  if (values.help || (positionals.length === 0 && args.length === 0)) return void process.stdout.write(help())
  const [name, ...more] = positionals
  const benchmark = BENCHMARKS.find((benchmark) => benchmark.name === name)
  const names = BENCHMARKS.map(({ name }) => name).join(", ")
  if (benchmark === undefined) throw new Usage(`there is no benchmark ${name ?? "without a name"}; there are ${names}`)
  if (more.length > 0) throw new Usage(`one benchmark at a time: ${benchmark.name}, not also ${more.join(", ")}`)
  const quick = values.quick ?? false
  const report = await benchmark.run({ quick, say: (line) => process.stderr.write(`${line}\n`) })
  const [machine, date] = [machineFacts(), new Date()]
  const section = sectionOf(benchmark.name, report, machine, date)
  const { ratios, details, failures = [] } = report
  if (!quick && failures.length === 0) writeSection(benchmark.name, section)
  process.stdout.write(
    values.json
      ? `${JSON.stringify({ benchmark: benchmark.name, date: date.toISOString(), quick, machine, ratios, details })}\n`
      : `${section}\n`,
  )
  if (failures.length > 0) throw new BenchFailed(failures.join("\n"))
}

main(process.argv.slice(2)).catch((error: unknown) => {
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error)
  if (error instanceof Usage) process.stderr.write(`${error.message}\nnpm run bench -- --help says more.\n`)
  else process.stderr.write(`${error instanceof BenchFailed ? error.message : message}\n`)
  process.exitCode = error instanceof Usage ? 2 : 1
})
