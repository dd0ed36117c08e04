// npm run soak -- [--generations N] [--streams N] [--seed N]
// Thousands of short generations on the demo pair, some cancelled at random points: what do they leave behind? The KV in
// use, the subscriptions and the memory of every process have to end where they were. Exits with 1 where they do not.
import { parseArgs } from "node:util"
import { soak } from "./soaking.ts"

const { values } = parseArgs({
  options: {
    generations: { type: "string", default: "5000" },
    streams: { type: "string", default: "16" },
    seed: { type: "string", default: "1" },
  },
})

const report = await soak({
  generations: Number(values.generations),
  streams: Number(values.streams),
  seed: Number(values.seed),
  say: (line) => process.stderr.write(`${line}\n`),
})
process.stdout.write(`${JSON.stringify(report, null, 2)}\n`)
if (report.left.length > 0) process.stderr.write(`left behind: ${report.left.join("; ")}\n`)
process.exitCode = report.left.length > 0 ? 1 : 0
