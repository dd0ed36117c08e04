// Starts a script of Chorus on the Node that it needs, whatever Node this is (18 and up): here and now if this one will
// do, else on the one that the set-up brought, as a child that gets the signals and gives the exit code.
import { spawn, spawnSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import module from "node:module"
import { resolve } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { node24 } from "../infra/packages.js"
import { nodeMinimum } from "../infra/pins.js"
import { atLeast, inRoot, installed, packageFolder } from "../infra/workspace.js"

/** Runs a script with arguments; `needs` are files that the set-up makes and that it cannot do without. */
export const launch = async (script, args, needs = []) => {
  const isReady = () => node24() && packageFolder("effect") && needs.every((file) => existsSync(inRoot(file)))
  // A package sets itself up at its first use: npm need not run anything when it installs it.
  if (!isReady() && installed) spawnSync(process.execPath, [inRoot("infra/setup.js")], { stdio: ["ignore", 2, 2] })
  if (!isReady()) {
    if (!installed) process.stderr.write("Chorus is not set up yet: run `npm run setup` in its folder first.\n")
    process.exitCode = 1
    return
  }
  process.env.NODE_COMPILE_CACHE ??= inRoot(".chorus/compiled") // compiled modules are kept: a command starts in half the time
  if (atLeast(process.version, nodeMinimum)) {
    module.enableCompileCache?.()
    process.argv = [process.execPath, resolve(script), ...args]
    await import(pathToFileURL(resolve(script)).href)
    return
  }
  const tether = fileURLToPath(new URL("tether.js", import.meta.url))
  const child = spawn(node24(), ["--import", pathToFileURL(tether).href, script, ...args], {
    stdio: ["inherit", "inherit", "inherit", "ipc"], // the fourth ends with this process, however it ends
  })
  let interrupts = 0
  process.on("SIGINT", () => {
    // The terminal's Ctrl-C reaches the child by itself; `kill -INT` to this process alone does not.
    interrupts += 1
    if (!inForeground() || interrupts > 1) child.kill("SIGINT")
  })
  for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal))
  child.on("error", (error) => {
    process.stderr.write(`${node24()} does not start: ${error.message}\n`)
    process.exitCode = 1
  })
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code)
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
  })
}

/** Whether the terminal sends its Ctrl-C to this process's group. */
const inForeground = () => {
  try {
    const [, , group, , , foreground] = readFileSync("/proc/self/stat", "utf8")
      .replace(/^.*\) /s, "")
      .split(" ")
    return group === foreground
  } catch {
    return process.stdin.isTTY === true // no /proc on macOS
  }
}
