// npm run simulate -- [--seeds N] [--from SEED] [--seed SEED]
import { parseArgs } from "node:util"
import { FAILED } from "./seeds.ts"
import { simulate, type Verdict } from "./simulate.ts"

const help = `usage: npm run simulate -- [--seeds N] [--from SEED] [--seed SEED]

Runs the protocol on a virtual clock and a virtual network, a world a seed, and checks that nothing is lost: first the seeds
that have ever failed, then others.

  --seeds N     how many others; 1000
  --from SEED   the first of them; 0
  --seed SEED   this one alone, with a trace of all that happened
`

const OPTIONS = {
  seeds: { type: "string", default: "1000" },
  from: { type: "string", default: "0" },
  seed: { type: "string" },
  help: { type: "boolean", short: "h" },
} as const

const say = (line: string): void => void process.stdout.write(`${line}\n`)

const numberOf = (flag: string, text: string): number => {
  const number = Number(text)
  if (Number.isSafeInteger(number) && number >= 0) return number
  throw new Error(`--${flag} is ${text}; give a whole number from 0 on`)
}

/** Whether all is well. */
const main = (args: ReadonlyArray<string>): boolean => {
  const { values } = parseArgs({ args: [...args], options: OPTIONS })
  if (values.help) {
    say(help)
    return true
  }
  if (values.seed !== undefined) return one(numberOf("seed", values.seed))
  const from = numberOf("from", values.from)
  const worlds = Array.from({ length: numberOf("seeds", values.seeds) }, (_, i) => from + i)
  return many([...FAILED.map(({ seed }) => seed), ...worlds])
}

const one = (seed: number): boolean => {
  const { violations } = simulate(seed, { note: say })
  for (const violation of violations) say(`violation: ${violation}`)
  if (violations.length === 0) say("nothing is wrong")
  return violations.length === 0
}

const COUNTS = ["accepted", "tokens", "owners", "overdue", "moves", "filled", "vain", "givenUp", "events"] as const

const many = (seeds: ReadonlyArray<number>): boolean => {
  const began = performance.now()
  const sum = { accepted: 0, tokens: 0, owners: 0, overdue: 0, moves: 0, filled: 0, vain: 0, givenUp: 0, events: 0 }
  let failed = 0
  let moved = 0
  for (const seed of seeds) {
    const verdict = simulate(seed)
    for (const count of COUNTS) sum[count] += verdict[count]
    if (verdict.moves > 0) moved++
    if (verdict.violations.length === 0) continue
    failed++
    report(verdict)
  }
  const minutes = (performance.now() - began) / 60_000
  say(`${seeds.length} seeds in ${minutes.toFixed(1)} minutes, ${failed} with a violation`)
  say(
    `${sum.accepted} sessions, ${sum.givenUp} given up as poison, ${sum.overdue} ended by their deadline, ${sum.tokens} tokens, ${sum.owners} take-overs, ${sum.events} events`,
  )
  say(
    `${sum.moves} sessions moved with their KV, in ${moved} seeds; ${sum.filled} prompts filled in apart; ${sum.vain} hand-overs in vain`,
  )
  return failed === 0
}

const report = ({ seed, violations }: Verdict): void => {
  say(`seed ${seed}: ${violations.join("; ")}`)
  say(`  npm run simulate -- --seed ${seed}`)
}

try {
  process.exitCode = main(process.argv.slice(2)) ? 0 : 1
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 2
}
