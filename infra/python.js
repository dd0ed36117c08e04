// node infra/python.js
// A Python environment in .chorus/python with the packages of infra/python.txt, for the tests of clients in Python. Does
// nothing where it is there already; prints the interpreter's path.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { lock } from "./lock.js"
import { inRoot, run, SetupFailed, which } from "./workspace.js"

const folder = inRoot(".chorus/python")
const requirements = inRoot("infra/python.txt")
const mark = join(folder, "installed.txt") // the requirements that it was made of; written last
const python = join(folder, "bin/python")

const done = () => existsSync(mark) && readFileSync(mark, "utf8") === readFileSync(requirements, "utf8")

/** The interpreter's path; makes the environment where it is missing or out of date. */
export const pythonReady = async () => {
  if (done()) return python
  const system = ["python3", "python"].find(which)
  if (system === undefined) {
    throw new SetupFailed(
      "There is no python3. Debian, Ubuntu: sudo apt-get install -y python3-venv. macOS: brew install python",
    )
  }
  mkdirSync(inRoot(".chorus"), { recursive: true })
  const release = await lock(() => {})
  try {
    if (done()) return python
    rmSync(folder, { recursive: true, force: true }) // made for other requirements, or not to its end
    await run(system, ["-m", "venv", folder]) // in its place from the start: an environment cannot be moved
    const quiet = ["--disable-pip-version-check", "--no-input", "--quiet"]
    await run(python, ["-m", "pip", "install", ...quiet, "--requirement", requirements])
    writeFileSync(mark, readFileSync(requirements, "utf8"))
    return python
  } finally {
    release()
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.stdout.write(`${await pythonReady()}\n`)
  } catch (error) {
    process.stderr.write(`${error instanceof SetupFailed ? error.message : error.stack}\n`)
    process.exitCode = 1
  }
}
