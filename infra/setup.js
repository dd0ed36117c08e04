// node infra/setup.js [--cuda]
// Brings everything that Chorus needs and builds the native module. Runs on any Node from 18 on, does nothing twice, and
// what it is interrupted in it has not done. Says what it does on stderr, so that commands behind it own stdout.
import { mkdirSync, writeFileSync } from "node:fs"
import { constants } from "node:os"
import { cudaStep, headers } from "./ggml.js"
import { lock } from "./lock.js"
import { backendsLinked, fromSource, linkBackends, native } from "./native.js"
import { natsServer, olderNatsServer } from "./natsServer.js"
import { packages } from "./packages.js"
import { browserMissing, requireTools } from "./tools.js"
import { checkInterrupted, clearScratch, Interrupted, inRoot, interrupt, log, SetupFailed } from "./workspace.js"

const usage = `usage: npm run setup [-- --cuda]

Brings npm's packages, Node 24, ggml and nats-server, and builds the native module. What is there is not done again.

  --cuda   brings ggml's CUDA backend too, where an NVIDIA driver is

CHORUS_CUDA=12             (or 13) brings it for that CUDA though there is no driver here, as in an image's build
CHORUS_GGML=source         builds ggml from source instead of using npm's binaries
GGML_SOURCE_DIR=FOLDER     builds that ggml
CHORUS_GGML=ready          goes back to npm's binaries
CHORUS_NATS_SERVER=FILE    uses that nats-server (2.12.2 or newer)
`

const say = (text) => process.stderr.write(`${text}\n`)

const main = async (options) => {
  if (process.platform === "win32")
    throw new SetupFailed("Chorus runs on Linux and macOS; on Windows use it inside WSL 2.")
  const cuda = options.includes("--cuda")
  const steps = [packages, headers, native({ cuda: false }), natsServer]
  if (!cuda && steps.every((step) => step.done()) && backendsLinked()) return

  const release = await lock((owner, path) =>
    say(`Another set-up runs here (process ${owner}); waiting for it. If there is none, remove ${path}.`),
  )
  try {
    clearScratch() // of a set-up that was killed
    if (cuda) await addCuda(steps)
    const pending = steps.filter((step) => !step.done())
    if (pending.length > 0) writeFileSync(log, "")
    await runAll(pending)
    linkBackends()
    const missing = browserMissing()
    if (missing) say(missing)
  } finally {
    clearScratch()
    release()
  }
}

const addCuda = async (steps) => {
  const step = await cudaStep({ fromSource: fromSource() })
  if (typeof step === "string") say(`No CUDA: ${step}. The CPU serves.`)
  else if (step === undefined) steps[2] = native({ cuda: true })
  else steps.splice(2, 0, step)
}

const runAll = async (steps) => {
  requireTools(steps.flatMap((step) => step.tools))
  const older = steps.includes(natsServer) && olderNatsServer()
  if (older) say(older)
  for (const [index, step] of steps.entries()) {
    process.stderr.write(`[${index + 1}/${steps.length}] ${step.title} ... `)
    const start = Date.now()
    try {
      await step.run()
    } catch (error) {
      say(error instanceof Interrupted ? "interrupted" : "failed")
      throw error
    }
    checkInterrupted()
    say(`${((Date.now() - start) / 1000).toFixed(1)} s`)
  }
}

let signalled
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    signalled ??= signal
    interrupt()
  })
}

const options = process.argv.slice(2)
const unknown = options.find((option) => !["--cuda", "--help", "-h"].includes(option))
if (unknown !== undefined) {
  say(`set-up: unknown option ${unknown}\n\n${usage}`)
  process.exitCode = 2
} else if (options.includes("--help") || options.includes("-h")) {
  process.stdout.write(usage)
} else {
  mkdirSync(inRoot(".chorus"), { recursive: true })
  await main(options).catch((error) => {
    if (error instanceof Interrupted) process.exitCode = 128 + constants.signals[signalled]
    else {
      say(error instanceof SetupFailed ? `\n${error.message}` : error.stack)
      process.exitCode = 1
    }
  })
}
