// npm's packages as the lockfile says, and Node 24 among them where the running Node is older.
import { cpSync, existsSync, readFileSync } from "node:fs"
import { delimiter, join } from "node:path"
import { pack } from "./download.js"
import { nodeMinimum } from "./pins.js"
import { npm } from "./tools.js"
import { atLeast, inRoot, installed, packageFolder, place, run, SetupFailed, scratch } from "./workspace.js"

export const packages = {
  title: "npm packages, with Node 24 and ggml's binaries among them",
  tools: ["npm", "tar"],
  done: () => lacking() === undefined && node24() !== undefined,
  async run() {
    if (installed) {
      const lacks = lacking()
      throw new SetupFailed(
        lacks === undefined ? withoutNode24 : `${lacks} is missing beside Chorus: install it again.`,
      )
    }
    // Installed beside and moved into place, so that an interrupted or failed run leaves node_modules as it was.
    const folder = scratch()
    const { workspaces } = JSON.parse(readFileSync(inRoot("package.json"), "utf8"))
    const own = workspaces.map((workspace) => join(workspace, "package.json"))
    for (const file of ["package.json", "package-lock.json", ".npmrc", ...own]) cpSync(inRoot(file), join(folder, file))
    const [command, ...first] = await npmOnNode24(folder)
    const kinds = ["--include=dev", "--include=optional"] // also where NODE_ENV says production
    // No package needs its install script: the native ones bring binaries for their platforms.
    const quiet = ["--ignore-scripts", "--no-engine-strict", "--no-audit", "--no-fund", "--loglevel=error"]
    await run(command, [...first, "ci", ...kinds, ...quiet], { cwd: folder, env: { PATH: path(folder) } })
    const missing = missingPackage(folder)
    if (missing !== undefined) {
      throw new SetupFailed(
        `npm left out ${missing}. Try a newer npm (npm install --global npm), then the same command again.`,
      )
    }
    place(join(folder, "node_modules"), inRoot("node_modules"))
    if (node24() === undefined) throw new SetupFailed(withoutNode24)
  },
}

/** What npm should have brought and has not. */
const lacking = () => {
  if (!installed) return missingPackage(inRoot())
  const { dependencies } = JSON.parse(readFileSync(inRoot("package.json"), "utf8"))
  return Object.keys(dependencies).find((name) => packageFolder(name) === undefined)
}

const withoutNode24 = `Chorus runs on Node ${nodeMinimum.join(".")} or newer; this is ${process.version}, and there is no Node 24 package for ${process.platform}-${process.arch} in the lockfile. Install it and run the same command again:
  Debian, Ubuntu   see nodejs.org/en/download, or nvm install 24
  Fedora           sudo dnf install -y nodejs24
  macOS            brew install node@24`

/**
 * npm as a command line. It leaves out optional packages that do not name the Node it runs on, and the native parts of
 * ours are such packages; so where this Node is older, Node 24 comes first, by itself, into `folder`/bin.
 */
const npmOnNode24 = async (folder) => {
  const [command, ...first] = npm()
  if (atLeast(process.version, nodeMinimum)) return [command, ...first]
  const name = `node-${process.platform}-${process.arch}`
  const locked = packagesOf(inRoot("package-lock.json"))[`node_modules/${name}`]
  if (locked === undefined) throw new SetupFailed(withoutNode24)
  const tarball = await pack({ spec: `${name}@${locked.version}`, integrity: locked.integrity }, folder)
  await run("tar", ["-xzf", tarball, "--strip-components=1", "package/bin/node"], { cwd: folder })
  return first.length > 0 ? [join(folder, "bin/node"), ...first] : [command]
}

const path = (folder) => [join(folder, "bin"), process.env.PATH].join(delimiter)

/** The Node that runs Chorus, or undefined where there is none. */
export const node24 = () => {
  const folder = packageFolder(`node-${process.platform}-${process.arch}`)
  if (folder !== undefined && existsSync(join(folder, "bin/node"))) return join(folder, "bin/node")
  return atLeast(process.version, nodeMinimum) ? process.execPath : undefined
}

/** The first package that the lockfile names for this platform and a folder's node_modules lacks or has otherwise. */
const missingPackage = (folder) => {
  const wanted = packagesOf(join(folder, "package-lock.json"))
  const present = packagesOf(join(folder, "node_modules/.package-lock.json")) // npm writes it last
  if (wanted === undefined || present === undefined) return "all packages"
  return Object.keys({ ...wanted, ...present }).find((path) => {
    if (path === "") return false
    if (present[path] === undefined) return needed(wanted[path])
    const other = wanted[path] !== undefined && present[path].integrity !== wanted[path].integrity
    return other || wanted[path] === undefined || !existsSync(join(folder, path, "package.json"))
  })
}

/** Whether npm has to install a package here: it leaves out what is optional and for other platforms. */
const needed = ({ optional, devOptional, os, cpu, libc }) => {
  if (!optional && !devOptional) return true
  const glibc = libc === undefined || (libc.includes("glibc") && !existsSync("/etc/alpine-release"))
  return [os].flat().includes(process.platform) && [cpu].flat().includes(process.arch) && glibc
}

/** The packages that a lockfile names, by path. */
export const packagesOf = (lockfile) => {
  try {
    return JSON.parse(readFileSync(lockfile, "utf8")).packages
  } catch {
    return undefined
  }
}
