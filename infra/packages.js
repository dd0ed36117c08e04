// npm's packages as the lockfile says, and Node 24 among them where the running Node is older.
import { cpSync, existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { nodeMinimum } from "./pins.js"
import { npm } from "./tools.js"
import { atLeast, inRoot, place, run, SetupFailed, scratch } from "./workspace.js"

export const packages = {
  title: "npm packages, with Node 24 and ggml's binaries among them",
  tools: ["npm"],
  done: () => installed(),
  async run() {
    // Installed beside and moved into place, so that an interrupted or failed run leaves node_modules as it was.
    const folder = scratch()
    for (const file of ["package.json", "package-lock.json", ".npmrc"]) cpSync(inRoot(file), join(folder, file))
    const [command, ...first] = npm()
    const kinds = ["--include=dev", "--include=optional"] // also where NODE_ENV says production
    // No package needs its install script: the native ones bring binaries for their platforms.
    const quiet = ["--ignore-scripts", "--no-engine-strict", "--no-audit", "--no-fund", "--loglevel=error"]
    await run(command, [...first, "ci", ...kinds, ...quiet], { cwd: folder })
    place(join(folder, "node_modules"), inRoot("node_modules"))
    if (node24() === undefined) {
      throw new SetupFailed(
        `Chorus runs on Node ${nodeMinimum.join(".")} or newer; this is ${process.version}, and npm has no Node 24 for ` +
          `${process.platform}-${process.arch} here. Install it and run the same command again:\n` +
          "  Debian, Ubuntu   see nodejs.org/en/download, or nvm install 24\n" +
          "  Fedora           sudo dnf install -y nodejs24\n" +
          "  macOS            brew install node@24",
      )
    }
  },
}

/** The Node that runs Chorus, or undefined where there is none. */
export const node24 = () => {
  const brought = inRoot("node_modules", `node-${process.platform}-${process.arch}`, "bin/node")
  if (existsSync(brought)) return brought
  return atLeast(process.version, nodeMinimum) ? process.execPath : undefined
}

/** Whether node_modules holds what the lockfile names for this platform, and nothing of another lockfile. */
const installed = () => {
  const wanted = packagesOf(inRoot("package-lock.json"))
  const present = packagesOf(inRoot("node_modules/.package-lock.json")) // npm writes it last
  if (wanted === undefined || present === undefined || node24() === undefined) return false
  for (const [path, { integrity, optional, devOptional }] of Object.entries(wanted)) {
    if (path === "") continue
    if (present[path] === undefined ? !(optional || devOptional) : present[path].integrity !== integrity) return false
  }
  return Object.keys(present).every((path) => wanted[path] !== undefined && existsSync(inRoot(path, "package.json")))
}

/** The packages that a lockfile names, by path. */
export const packagesOf = (lockfile) => {
  try {
    return JSON.parse(readFileSync(lockfile, "utf8")).packages
  } catch {
    return undefined
  }
}
