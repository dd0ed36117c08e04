// Runs mutated models through the loaders, in processes of their own: one that crashes or hangs is known by its file, and
// the run goes on behind it.
import { type ChildProcess, execFileSync, fork } from "node:child_process"
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { isBad } from "./attempt.ts"
import { Cases } from "./case.ts"
import { corpus, type Loader } from "./corpus.ts"
import { byteOf, type Result, resultOf } from "./outcomes.ts"

const ROOT = join(import.meta.dirname, "../..")
const SANITIZED = join(ROOT, ".chorus/sanitized/Release/chorus.node")
const BACKENDS = join(ROOT, ".chorus/backends")
const FAILURES = join(ROOT, ".chorus/fuzz") // what failed is kept here

const COMPUTING_MILLIS = 20_000 // that one file may have of a core
const WAITING_MILLIS = 300_000 // that one file may take, on a machine that has other work
const LOOK_MILLIS = 1_000

export interface FuzzOptions {
  readonly seed: number
  readonly from: number
  readonly to: number
  readonly sanitized: boolean
  readonly say: (line: string) => void
}

export interface Failure extends Result {
  readonly index: number
  readonly kept: string // a folder with the file
}

export interface FuzzReport {
  readonly counts: Counts
  readonly failures: ReadonlyArray<Failure>
  readonly sounds: ReadonlyArray<string>
  readonly seconds: number
  readonly slowestMillis: number
}

type Counts = ReadonlyMap<string, number>
const keyOf = ({ loader, outcome }: Result): string => `${loader} ${outcome}`
export const countOf = (counts: Counts, result: Result): number => counts.get(keyOf(result)) ?? 0

export const fuzz = async (options: FuzzOptions): Promise<FuzzReport> => {
  const began = performance.now()
  const memory = existsSync("/dev/shm") ? "/dev/shm" : tmpdir()
  const folder = mkdtempSync(join(memory, "chorus-fuzz-"))
  const outcomes = join(folder, "outcomes")
  writeFileSync(outcomes, Buffer.alloc(options.to))
  const failures: Array<Failure> = []
  let slowestMillis = 0
  try {
    for (let from = options.from; from < options.to; ) {
      const { hung, slowest } = await runWorker(options, folder, from)
      slowestMillis = Math.max(slowestMillis, slowest)
      const done = readFileSync(outcomes)
      const open = done.indexOf(0, from) // the first that has not ended
      if (open === -1) break
      const loader = loaderOf(options.seed, open)
      done[open] = byteOf(loader, hung ? "hung" : "crashed")
      writeFileSync(outcomes, done)
      from = open + 1
    }
    const counts = new Map<string, number>()
    for (const [index, byte] of readFileSync(outcomes).entries()) {
      const result = index < options.from ? null : resultOf(byte)
      if (result === null) continue
      counts.set(keyOf(result), countOf(counts, result) + 1)
      if (isBad(result.outcome)) failures.push({ ...result, index, kept: keep(options.seed, index) })
    }
    const seconds = (performance.now() - began) / 1000
    return { counts, failures, sounds: corpus().map(({ name }) => name), seconds, slowestMillis }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const runWorker = (options: FuzzOptions, folder: string, from: number) =>
  new Promise<{ hung: boolean; slowest: number }>((resolve) => {
    const { seed, to, sanitized } = options
    const args = [seed, from, to, folder, BACKENDS].map(String)
    const child = fork(join(import.meta.dirname, "worker.ts"), args, {
      env: { ...process.env, ...(sanitized ? sanitizers() : {}) },
      execArgv: [
        "--max-old-space-size=2048",
        ...(sanitized ? ["--import", join(import.meta.dirname, "loadSanitized.js")] : []),
      ],
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    })
    const watch = watching(child, options, folder)
    let slowest = 0
    child.on("message", (message: { readonly millis: number }) => {
      slowest = message.millis
    })
    child.on("exit", () => resolve({ hung: watch.stop(), slowest }))
  })

/** Tells how far the worker is, and ends one that is stuck. */
const watching = (child: ChildProcess, { from: first, to, say }: FuzzOptions, folder: string) => {
  const begun = { at: performance.now(), open: -1 }
  let [told, hung] = [performance.now(), false]
  let file = { open: -1, since: performance.now(), computed: 0 }
  const timer = setInterval(() => {
    const open = readFileSync(join(folder, "outcomes")).indexOf(0, first)
    const now = performance.now()
    if (begun.open === -1) begun.open = open
    if (open !== file.open) file = { open, since: now, computed: computedMillis(child.pid) }
    if (open !== -1 && now - told > 10_000) {
      told = now
      say(
        `${open - first} of ${to - first} files, ${Math.round((1000 * (open - begun.open)) / (now - begun.at))} a second`,
      )
    }
    if (now - file.since > WAITING_MILLIS || computedMillis(child.pid) - file.computed > COMPUTING_MILLIS) {
      hung = true
      child.kill("SIGKILL")
    }
  }, LOOK_MILLIS)
  return {
    stop: () => {
      clearInterval(timer)
      return hung
    },
  }
}

/** What a process has had of the cores; 0 where there is no /proc. */
const computedMillis = (pid: number | undefined): number => {
  try {
    const [user = "0", system = "0"] = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ")
      .slice(11, 13)
    return 10 * (Number(user) + Number(system)) // ticks of 10 ms
  } catch {
    return 0
  }
}

/** AddressSanitizer has to be in the process before anything else, so before node itself. Node leaks as it pleases. */
const sanitizers = (): Record<string, string> => ({
  CHORUS_FUZZ_MODULE: SANITIZED,
  LD_PRELOAD: execFileSync("c++", ["-print-file-name=libasan.so"], { encoding: "utf8" }).trim(),
  ASAN_OPTIONS: "detect_leaks=0:quarantine_size_mb=16:max_allocation_size_mb=1024:abort_on_error=0",
  UBSAN_OPTIONS: "print_stacktrace=1:halt_on_error=1",
})

const scratch = <A>(use: (folder: string) => A): A => {
  const folder = mkdtempSync(join(tmpdir(), "chorus-fuzz-"))
  try {
    return use(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const loaderOf = (seed: number, index: number): Loader =>
  scratch((folder) => new Cases(folder, corpus()).write(seed, index).sound.loader)

/** Copies the model to where it stays. */
const keep = (seed: number, index: number): string => {
  const kept = join(FAILURES, `${seed}-${index}`)
  mkdirSync(FAILURES, { recursive: true })
  scratch((folder) => cpSync(new Cases(folder, corpus()).write(seed, index).path, kept, { recursive: true }))
  return kept
}
