// Where the set-up keeps things, and how it runs commands: their output goes to .chorus/setup.log, they end when the
// set-up is interrupted, and what they write comes into place by one rename or not at all.
import { spawn } from "node:child_process"
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync } from "node:fs"
import { delimiter, dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"

export const root = dirname(dirname(fileURLToPath(import.meta.url)))
export const inRoot = (...parts) => join(root, ...parts)
/** Installed as a package of another project, rather than cloned: what npm brings lies beside it, and it was compiled. */
export const installed = !existsSync(inRoot("package-lock.json"))

/** Where npm has put a package: into our own folder, or into one above it. */
export const packageFolder = (name, from = root) => {
  const folder = join(from, "node_modules", name)
  if (existsSync(folder)) return folder
  return dirname(from) === from ? undefined : packageFolder(name, dirname(from))
}

export const log = inRoot(".chorus/setup.log")
const scratchRoot = inRoot(".chorus/scratch")

/** A failure that the user can act on; the message says how. */
export class SetupFailed extends Error {}
export class Interrupted extends Error {}

const children = new Set()
let interrupted = false

/** Throws when the set-up is to end. */
export const checkInterrupted = () => {
  if (interrupted) throw new Interrupted()
}

/** Ends the running command with all that it started; `run` then rejects with `Interrupted`. */
export const interrupt = () => {
  interrupted = true
  for (const child of children) end(child, "SIGTERM")
  setTimeout(() => {
    for (const child of children) end(child, "SIGKILL")
  }, 3000).unref()
}

const end = (child, signal) => {
  try {
    process.kill(-child.pid, signal) // the group: npm, make and git start processes of their own
  } catch {
    // gone already
  }
}

// npm tells its scripts about the package that they belong to; an npm that a script starts must not take that for its own.
const inherited = Object.fromEntries(
  Object.entries(process.env).filter(
    ([name]) => !/^(npm_(package_|lifecycle_|config_local_prefix$|command$)|INIT_CWD$)/.test(name),
  ),
)

/** Runs a command to its end and returns what it wrote to stdout. */
export const run = (command, args, { cwd = root, env = {} } = {}) =>
  new Promise((resolve, reject) => {
    if (interrupted) return reject(new Interrupted())
    appendFileSync(log, `\n$ ${[command, ...args].join(" ")}\n`)
    // A group of its own, so that Ctrl-C reaches the set-up alone, which then ends the command in order.
    const child = spawn(command, args, {
      cwd,
      env: { ...inherited, ...env },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    })
    children.add(child)
    let stdout = ""
    let tail = ""
    const keep = (chunk) => {
      appendFileSync(log, chunk)
      tail = (tail + chunk).slice(-6000)
    }
    child.stdout.on("data", (chunk) => {
      stdout += chunk
      keep(chunk)
    })
    child.stderr.on("data", keep)
    child.on("error", (error) => {
      children.delete(child)
      reject(new SetupFailed(`${command} does not start: ${error.message}`))
    })
    child.on("close", (code, signal) => {
      children.delete(child)
      if (interrupted) return reject(new Interrupted())
      if (code === 0) return resolve(stdout)
      const last = tail.trimEnd().split("\n").slice(-25).join("\n")
      const how = signal ? `ended by ${signal}` : `exit code ${code}`
      reject(
        new SetupFailed(
          `${last}\n\n${command} ${args[0] ?? ""} failed (${how}). The whole output is in ${relative(process.cwd(), log)}.`,
        ),
      )
    })
  })

/** A folder for half-done things, on the same file system as the places they go to. */
export const scratch = () => {
  mkdirSync(scratchRoot, { recursive: true })
  return mkdtempSync(join(scratchRoot, "step-"))
}

export const clearScratch = () => rmSync(scratchRoot, { recursive: true, force: true })

/** Puts a finished file or folder in its place, where an older one may lie. */
export const place = (finished, target) => {
  mkdirSync(dirname(target), { recursive: true })
  // A rename replaces a file but not a folder with something in it.
  const older = existsSync(target) && statSync(target).isDirectory() ? join(scratch(), "older") : undefined
  if (older) renameSync(target, older)
  renameSync(finished, target)
  if (older) rmSync(older, { recursive: true, force: true })
}

/** The path of a program on PATH. */
export const which = (program) =>
  (process.env.PATH ?? "")
    .split(delimiter)
    .filter(Boolean)
    .map((folder) => join(folder, program))
    .find(existsSync)

/** Whether a version ("v24.21.0", "2.9.10-beta") is at least the one given as numbers. */
export const atLeast = (version, minimum) => {
  const numbers = (version.match(/\d+/g) ?? []).map(Number)
  for (const [index, least] of minimum.entries()) {
    const number = numbers[index] ?? 0
    if (number !== least) return number > least
  }
  return true
}
