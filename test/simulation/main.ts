// npm run simulate -- [--seeds N] [--from SEED] [--seed SEED]
import { parseArgs } from "node:util"
import { simulate, type Verdict } from "./simulate.ts"

const help = `usage: npm run simulate -- [--seeds N] [--from SEED] [--seed SEED]

Runs the protocol on a virtual clock and a virtual network, a world a seed, and checks that nothing is lost.

  --seeds N     so many seeds; 1000
  --from SEED   the first of them; 0
  --seed SEED   this one alone, with a trace of all that happened
`

const main = (args: ReadonlyArray<string>): number => {
  const options = {
    seeds: { type: "string", default: "1000" },
    from: { type: "string", default: "0" },
    seed: { type: "string" },
    help: { type: "boolean", short: "h" },
  } as const
  const { values } = parseArgs({ args: [...args], options })
  if (values.help) return say(help, 0)
  return values.seed === undefined ? many(Number(values.from), Number(values.seeds)) : one(Number(values.seed))
}

const say = (text: string, code: number): number => {
  process.stdout.write(text)
  return code
}

const one = (seed: number): number => {
  const { violations } = simulate(seed, { note: (line) => process.stdout.write(`${line}\n`) })
  for (const violation of violations) say(`violation: ${violation}\n`, 1)
  return violations.length === 0 ? say("nothing is wrong\n", 0) : 1
}

const many = (from: number, seeds: number): number => {
  const began = performance.now()
  const failed: Array<number> = []
  const sum = { events: 0, accepted: 0, owners: 0, tokens: 0 }
  for (let seed = from; seed < from + seeds; seed++) {
    const verdict = simulate(seed)
    sum.events += verdict.events
    sum.accepted += verdict.accepted
    sum.owners += verdict.owners
    sum.tokens += verdict.tokens
    if (verdict.violations.length === 0) continue
    failed.push(seed)
    report(verdict)
  }
  const seconds = (performance.now() - began) / 1000
  const rate = Math.round((seeds / seconds) * 60)
  say(
    `${seeds} seeds, ${failed.length} with a violation; ${sum.accepted} sessions, ${sum.tokens} tokens, ` +
      `${sum.owners} take-overs, ${sum.events} events; ${seconds.toFixed(0)} s, ${rate} seeds a minute\n`,
    0,
  )
  return failed.length === 0 ? 0 : 1
}

const report = ({ seed, violations }: Verdict): void => {
  say(`seed ${seed}: ${violations.join("; ")}\n  npm run simulate -- --seed ${seed}\n`, 1)
}

process.exitCode = main(process.argv.slice(2))
