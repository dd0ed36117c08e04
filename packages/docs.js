// node packages/docs.js
// The API documentation of the packages, out of their doc comments, into dist/api. A warning fails: a comment that names what
// is not there, a type that is shown and not exported. typedoc is brought into .chorus/docs, as its lock file says.
import { spawnSync } from "node:child_process"
import { cpSync, existsSync, mkdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { npm } from "../infra/tools.js"
import { inRoot } from "../infra/workspace.js"

const FOLDER = inRoot(".chorus/docs")
const HERE = inRoot("packages/docs")
const ENTRIES = ["client/src/index.ts", "client/src/effect.ts", "durable/src/index.ts"]

const run = (command, args, cwd) => {
  const { status } = spawnSync(command, args, { cwd, stdio: "inherit" })
  if (status !== 0) process.exit(status ?? 1)
}

const isBrought = () => {
  const lock = join(FOLDER, "package-lock.json")
  const whole = join(FOLDER, "node_modules/.package-lock.json") // npm writes it last
  const wanted = readFileSync(join(HERE, "package-lock.json"), "utf8")
  return existsSync(whole) && existsSync(lock) && readFileSync(lock, "utf8") === wanted
}

if (!isBrought()) {
  mkdirSync(FOLDER, { recursive: true })
  cpSync(HERE, FOLDER, { recursive: true })
  const [command, ...first] = npm()
  run(command, [...first, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], FOLDER)
}
const options = [
  ...["--tsconfig", inRoot("packages/tsconfig.json"), "--out", inRoot("dist/api"), "--readme", "none"],
  ...["--name", "Chorus", "--treatWarningsAsErrors", "--excludeExternals", "--excludePrivate", "--disableSources"],
  ...["--excludeInternal", "--logLevel", "Warn"],
]
const entries = ENTRIES.map((file) => inRoot("packages", file))
run(process.execPath, [join(FOLDER, "node_modules/typedoc/bin/typedoc"), ...options, ...entries], FOLDER)
