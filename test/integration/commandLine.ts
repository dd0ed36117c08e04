// Runs bin/chorus.js as a user does, in a process group and with folders of its own, and looks for what it leaves behind.
import { type ChildProcess, spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, expect } from "vitest"

const BINARY = join(import.meta.dirname, "../../bin/chorus.js")
const MARK = "CHORUS_TEST_RUN"

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

export interface Started {
  readonly child: ChildProcess
  readonly ended: Promise<Ended>
  /** Resolves when stdout has matched; rejects when the command ends before. */
  readonly says: (pattern: RegExp) => Promise<RegExpExecArray>
}

export interface CommandLine {
  readonly start: (args: ReadonlyArray<string>, options?: StartOptions) => Started
  readonly run: (args: ReadonlyArray<string>, options?: StartOptions) => Promise<Ended>
  /** A line as it is typed into a shell, where `npx chorus` is this repository's. What it says on stderr comes on stdout. */
  readonly type: (line: string, options?: StartOptions) => Started
  /** Command lines of processes that were started by these commands and are still there. */
  readonly processes: () => ReadonlyArray<string>
  /** The process of these commands whose command line matches; undefined where there is none. */
  readonly pidOf: (command: RegExp) => number | undefined
  /** Files and folders in the temporary and the runtime folder. */
  readonly files: () => ReadonlyArray<string>
  /** Ends what is left, and removes the folders. */
  readonly close: () => void
}

interface StartOptions {
  readonly input?: string
  readonly env?: Record<string, string>
  readonly cwd?: string
}

export const commandLine = (): CommandLine => {
  const mark = randomUUID()
  const temporary = mkdtempSync(join(tmpdir(), "chorus-test-tmp-"))
  const runtime = mkdtempSync(join(tmpdir(), "chorus-test-run-"))
  const environment = { TMPDIR: temporary, XDG_RUNTIME_DIR: runtime, [MARK]: mark }
  const spawned = (command: string, args: ReadonlyArray<string>, { input = "", env, cwd }: StartOptions = {}) => {
    const child = spawn(command, args, {
      detached: true, // a process group, as a shell makes one: Ctrl-C goes to all of it
      env: { ...process.env, ...environment, ...env },
      cwd,
    })
    return started(child, input)
  }
  const start: CommandLine["start"] = (args, options) => spawned(process.execPath, [BINARY, ...args], options)
  const programs = mkdtempSync(join(tmpdir(), "chorus-test-bin-"))
  writeFileSync(join(programs, "npx"), `#!/bin/sh\nshift\nexec "${process.execPath}" "${BINARY}" "$@"\n`)
  chmodSync(join(programs, "npx"), 0o755)
  return {
    start,
    run: (args, options) => start(args, options).ended,
    type: (line, options) => spawned("bash", ["-c", `PATH="${programs}:$PATH"\nexec 2>&1\n${line}`], options),
    processes: () => processesWith(`${MARK}=${mark}`).map(({ command }) => command),
    pidOf: (pattern) => processesWith(`${MARK}=${mark}`).find(({ command }) => pattern.test(command))?.pid,
    files: () => [temporary, runtime].flatMap((folder) => readdirSync(folder, { recursive: true }).map(String)),
    close: () => {
      for (const { pid } of processesWith(`${MARK}=${mark}`)) process.kill(pid, "SIGKILL")
      for (const folder of [temporary, runtime, programs]) rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** A command line of its own for each test of the file; a test whose commands leave something behind fails. */
export const commandLineOfEach = (): CommandLine => {
  let own: CommandLine
  beforeEach(() => {
    own = commandLine()
  })
  afterEach(() => {
    const left = { processes: own.processes(), files: own.files() }
    own.close()
    expect(left).toEqual({ processes: [], files: [] })
  })
  return {
    start: (args, options) => own.start(args, options),
    run: (args, options) => own.run(args, options),
    type: (line, options) => own.type(line, options),
    processes: () => own.processes(),
    pidOf: (command) => own.pidOf(command),
    files: () => own.files(),
    close: () => own.close(),
  }
}

const started = (child: ReturnType<typeof spawn>, input: string): Started => {
  let stdout = ""
  let stderr = ""
  const listeners = new Set<() => void>()
  child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
    stdout += chunk
    for (const listener of listeners) listener()
  })
  child.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
    stderr += chunk
  })
  child.stdin?.on("error", () => {}) // it may end without having read
  child.stdin?.end(input)
  const ended = new Promise<Ended>((resolve) =>
    child.once("close", (code, signal) => resolve({ code, signal, stdout, stderr })),
  )
  const says = (pattern: RegExp) =>
    new Promise<RegExpExecArray>((resolve, reject) => {
      const look = () => {
        const match = pattern.exec(stdout)
        if (match === null) return
        listeners.delete(look)
        resolve(match)
      }
      listeners.add(look)
      look()
      void ended.then(({ code }) =>
        reject(new Error(`ended with ${code} before it said ${pattern}: ${stdout}${stderr}`)),
      )
    })
  return { child, ended, says }
}

/** Ctrl-C: SIGINT to the whole process group. */
export const interrupt = ({ child }: Started): void => {
  if (child.pid !== undefined) process.kill(-child.pid, "SIGINT")
}

/** By a variable that children inherit, whatever they have made of their names, groups and parents. */
const processesWith = (variable: string): ReadonlyArray<{ readonly pid: number; readonly command: string }> =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        if (!readFileSync(`/proc/${name}/environ`, "utf8").split("\0").includes(variable)) return []
        return [{ pid: Number(name), command: readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ") }]
      } catch {
        return [] // gone, or not ours to read
      }
    })
