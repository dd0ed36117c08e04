// npm run fuzz -- [--files N] [--seed S] [--only I] [--record]
// Mutated model files through the loaders, in a native module that AddressSanitizer and UndefinedBehaviorSanitizer watch.
// Exits with 1 where one crashed it, hung it, took its memory, or was refused without a type.
import { execFileSync } from "node:child_process"
import { randomInt } from "node:crypto"
import { parseArgs } from "node:util"
import { machineFacts, showMachine } from "../../bench/machine.ts"
import { writeSection } from "../../bench/results.ts"
import { OUTCOMES } from "./attempt.ts"
import type { Loader } from "./corpus.ts"
import { countOf, type FuzzReport, fuzz } from "./fuzzing.ts"

const usage = `usage: npm run fuzz -- [--files N] [--seed S] [--only I] [--record]

  --files N   how many, 10000
  --seed S    what they are drawn from; without it, by chance
  --only I    the Ith of that seed alone
  --record    writes what was found into bench/RESULTS.md
`

const { values } = parseArgs({
  options: {
    files: { type: "string", default: "10000" },
    seed: { type: "string", default: String(randomInt(2 ** 31)) },
    only: { type: "string" },
    record: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
})

const main = async (): Promise<void> => {
  if (values.help) return void process.stdout.write(usage)
  const [seed, from] = [Number(values.seed), Number(values.only ?? 0)]
  const to = values.only === undefined ? Number(values.files) : from + 1
  if (![seed, from, to].every(Number.isSafeInteger))
    throw new Error(`files, seed and only are whole numbers\n\n${usage}`)
  const command = (rest: string) => `npm run fuzz -- --seed ${seed} ${rest}`
  const say = (line: string) => process.stderr.write(`${line}\n`)
  say(command(values.only === undefined ? `--files ${to}` : `--only ${from}`))
  const report = await fuzz({ seed, from, to, sanitized: true, say })
  process.stdout.write(`${tableOf(report)}\n`)
  for (const { index, outcome, kept } of report.failures) {
    say(`file ${index} ${outcome}; it is in ${kept}. Again: ${command(`--only ${index}`)}`)
  }
  if (values.record) writeSection("fuzz", sectionOf(report, command(`--files ${to}`), to))
  if (report.failures.length > 0) process.exitCode = 1
}

const LOADERS: ReadonlyArray<Loader> = ["safetensors", "gguf"]

const tableOf = ({ counts }: FuzzReport): string => {
  const rows = OUTCOMES.map((outcome) => [outcome, ...LOADERS.map((loader) => countOf(counts, { loader, outcome }))])
  const lines = rows.map((row) => `| ${row.join(" | ")} |`)
  return ["| outcome | safetensors | GGUF |", "|---|---:|---:|", ...lines].join("\n")
}

const sectionOf = (report: FuzzReport, command: string, files: number): string =>
  [
    "## Mutated model files",
    `\`${command}\`, ${new Date().toISOString().slice(0, 10)}. ${showMachine(machineFacts())}; ${compiler()}.`,
    `${files} files, one after the other on one core, in ${Math.round(report.seconds / 60)} minutes; the slowest took ${Math.round(report.slowestMillis)} ms. Each went from its path through the parser, the tokenizer, the chat template and the shard to the native module, built with \`-fsanitize=address,undefined\`, and to a pass where it loaded. ${verdict(report)}`,
    tableOf(report),
    `Mutated were: ${report.sounds.join("; ")}; and models of odd sizes, made anew for each file.`,
  ].join("\n\n")

const verdict = ({ failures }: FuzzReport): string =>
  failures.length === 0
    ? "No crash, no report of a sanitizer, no refusal without a type."
    : `${failures.length} failed.`

const compiler = (): string => execFileSync("c++", ["--version"], { encoding: "utf8" }).split("\n")[0] ?? ""

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 2
})
