// node infra/pythonPackages.js NAME
// Brings the packages of infra/NAME.txt into .chorus/NAME, once, and prints that folder, for PYTHONPATH. For tests that
// speak to Chorus from Python; nothing of Chorus itself needs it.
import { cpSync, existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { requireTools } from "./tools.js"
import { clearScratch, inRoot, place, run, scratch } from "./workspace.js"

const [name = ""] = process.argv.slice(2)
const list = inRoot("infra", `${name}.txt`)
const folder = inRoot(".chorus", name)
const brought = join(folder, "list.txt")

try {
  if (!existsSync(brought) || readFileSync(brought, "utf8") !== readFileSync(list, "utf8")) {
    requireTools(["Python 3 with pip"])
    const fresh = scratch()
    await run("python3", ["-m", "pip", "install", "--quiet", "--no-deps", "--target", fresh, "-r", list])
    cpSync(list, join(fresh, "list.txt"))
    place(fresh, folder)
  }
  process.stdout.write(folder)
} catch (error) {
  process.stderr.write(`${error.message}\n`)
  process.exitCode = 1
} finally {
  clearScratch()
}
