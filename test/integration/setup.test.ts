// Goal: a set-up does nothing twice, says at once all that it lacks, and leaves nothing half-done when it is ended.
// Method: the real script in copies of this repository that have no packages yet, with a PATH that holds what the case
// needs; where a case is about the time during a step, the PATH's npm is a program that waits.
import { spawn, spawnSync } from "node:child_process"
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, expect, test } from "vitest"

const ROOT = join(import.meta.dirname, "../..")
const folders: Array<string> = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

const temporaryFolder = (): string => {
  const folder = mkdtempSync(join(tmpdir(), "chorus-test-"))
  folders.push(folder)
  return folder
}

/** What the set-up reads, without what it brings. */
const copyOfRepository = (): string => {
  const copy = temporaryFolder()
  for (const path of [
    "infra",
    "bin",
    "native",
    "packages",
    "CMakeLists.txt",
    "package.json",
    "package-lock.json",
    ".npmrc",
  ]) {
    cpSync(join(ROOT, path), join(copy, path), { recursive: true })
  }
  return copy
}

/** A PATH with nothing but the given shell scripts. */
const pathWith = (programs: Record<string, string>): string => {
  const folder = temporaryFolder()
  for (const [name, script] of Object.entries(programs)) {
    writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`)
    chmodSync(join(folder, name), 0o755)
  }
  return folder
}

const environment = (changes: Record<string, string> = {}): NodeJS.ProcessEnv => {
  const { npm_execpath: _, CHORUS_GGML: __, GGML_SOURCE_DIR: ___, ...rest } = process.env
  return { ...rest, ...changes }
}

const setUp = (folder: string, options: ReadonlyArray<string> = [], changes: Record<string, string> = {}) =>
  spawnSync(process.execPath, ["infra/setup.js", ...options], {
    cwd: folder,
    env: environment(changes),
    encoding: "utf8",
  })

/** A set-up that runs, and what it said so far; `said` ends when a text has come. */
const startSetUp = (folder: string, changes: Record<string, string>) => {
  const child = spawn(process.execPath, ["infra/setup.js"], { cwd: folder, env: environment(changes) })
  let output = ""
  const said = (text: string) =>
    new Promise<void>((resolve) => {
      const look = () => output.includes(text) && resolve()
      look()
      child.stderr.on("data", look)
    })
  child.stderr.on("data", (chunk) => {
    output += chunk
  })
  const ended = new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code)))
  return { child, said, ended, output: () => output }
}

const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

test("does nothing and says nothing when all is done", () => {
  const before = readFileSync(join(ROOT, "build/Release/chorus.node"))
  expect(setUp(ROOT)).toMatchObject({ status: 0, stdout: "", stderr: "" })
  expect(readFileSync(join(ROOT, "build/Release/chorus.node")).equals(before)).toBe(true)
})

test("refuses an unknown option by name, with the usage", () => {
  const { status, stdout, stderr } = setUp(ROOT, ["--cudda"])
  expect(stderr).toContain("unknown option --cudda")
  expect(stderr).toContain("usage: npm run setup [-- --cuda]")
  expect({ status, stdout }).toEqual({ status: 2, stdout: "" })
})

test("refuses a source of ggml that it does not know", () => {
  const { status, stderr } = setUp(ROOT, [], { CHORUS_GGML: "elsewhere" })
  expect(stderr).toContain('CHORUS_GGML is "elsewhere"; expected "ready" (npm\'s binaries) or "source".')
  expect(status).toBe(1)
})

test("refuses a folder of ggml sources that holds none", () => {
  const { status, stderr } = setUp(ROOT, [], { GGML_SOURCE_DIR: "/nowhere" })
  expect(stderr).toContain("GGML_SOURCE_DIR is /nowhere, and there is no include/ggml.h in it")
  expect(status).toBe(1)
})

const driver = [
  "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
  "/usr/lib64/libcuda.so.1",
  "/usr/lib/wsl/lib/libcuda.so.1",
].some(existsSync)
test.skipIf(driver)("with --cuda but no driver says that the CPU serves", () => {
  const { status, stderr } = setUp(ROOT, ["--cuda"])
  expect(stderr).toBe("No CUDA: there is no NVIDIA driver here (no nvidia-smi, no libcuda.so.1). The CPU serves.\n")
  expect(status).toBe(0)
})

test("names all that is missing at once, with the commands that install it", () => {
  const { status, stderr } = setUp(copyOfRepository(), [], {
    PATH: pathWith({ git: "exit 0", npm: "exit 1" }),
    CXX: "",
  })
  expect(stderr).toContain("CMake (builds the native module)")
  expect(stderr).toContain("a C++17 compiler (builds the native module)")
  expect(stderr).toContain("sudo apt-get install -y tar cmake g++ make python3-pip")
  expect(stderr).toContain("sudo dnf install -y tar cmake gcc-c++ make python3-pip")
  expect(stderr).toContain("xcode-select --install && brew install cmake nats-server")
  expect(stderr).not.toContain("git (")
  expect(status).toBe(1)
})

/** Tools enough to begin; npm says its pid, in a file, and waits. */
const waitingPath = (folder: string): string => {
  const there = Object.fromEntries(["git", "tar", "cmake", "c++", "make", "python3"].map((name) => [name, "exit 0"]))
  return `${pathWith({ ...there, npm: `echo $$ > ${join(folder, "npm.pid")}; exec sleep 600` })}:/usr/bin:/bin`
}

const pidIn = async (file: string): Promise<number> => {
  await expect.poll(() => existsSync(file) && readFileSync(file, "utf8").endsWith("\n")).toBe(true)
  return Number(readFileSync(file, "utf8"))
}

test.each(["SIGINT", "SIGTERM"] as const)(
  "ended by %s in a step, leaves neither its command nor half of anything",
  async (signal) => {
    const copy = copyOfRepository()
    const run = startSetUp(copy, { PATH: waitingPath(copy) })
    const npm = await pidIn(join(copy, "npm.pid"))
    run.child.kill(signal)
    expect(await run.ended).toBe(signal === "SIGINT" ? 130 : 143)
    expect(run.output()).toMatch(/\[1\/4\] npm packages.* \.\.\. interrupted\n$/)
    expect(alive(npm)).toBe(false)
    expect(readdirSync(join(copy, ".chorus"))).toEqual(["setup.log"])
    expect(existsSync(join(copy, "node_modules"))).toBe(false)
  },
)

test("waits while another one runs, and can be ended meanwhile", async () => {
  const copy = copyOfRepository()
  const first = startSetUp(copy, { PATH: waitingPath(copy) })
  await pidIn(join(copy, "npm.pid"))
  const second = startSetUp(copy, { PATH: waitingPath(copy) })
  await second.said(`Another set-up runs here (process ${first.child.pid}); waiting for it.`)
  second.child.kill("SIGINT")
  expect(await second.ended).toBe(130)
  expect(first.child.exitCode).toBe(null)
  expect(existsSync(join(copy, ".chorus/setup.lock"))).toBe(true)
  first.child.kill("SIGINT")
  expect(await first.ended).toBe(130)
})

test("takes over from one that was killed, and clears what that left", async () => {
  const copy = copyOfRepository()
  const killed = startSetUp(copy, { PATH: waitingPath(copy) })
  const npm = await pidIn(join(copy, "npm.pid"))
  killed.child.kill("SIGKILL")
  await killed.ended.catch(() => {})
  process.kill(npm, "SIGKILL")
  expect(readdirSync(join(copy, ".chorus")).sort()).toEqual(["scratch", "setup.lock", "setup.log"])
  const { status, stderr } = setUp(copy, [], { PATH: pathWith({}) })
  expect(stderr).toContain("These are missing here:")
  expect(status).toBe(1)
  expect(readdirSync(join(copy, ".chorus"))).toEqual(["setup.log"])
})

test("shows the last lines of a command that fails, and where the rest is", () => {
  const copy = copyOfRepository()
  const there = Object.fromEntries(["git", "tar", "cmake", "c++", "make", "python3"].map((name) => [name, "exit 0"]))
  const path = pathWith({ ...there, npm: "echo the registry does not answer >&2; exit 7" })
  const { status, stderr } = setUp(copy, [], { PATH: path })
  expect(stderr).toContain("the registry does not answer")
  expect(stderr).toContain("npm ci failed (exit code 7). The whole output is in .chorus/setup.log.")
  expect(status).toBe(1)
})

test("does not take a package whose bytes are not the ones that were pinned", () => {
  const copy = copyOfRepository()
  // The packages as they are here, and an npm that packs something else.
  symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"))
  const path = `${pathWith({ npm: 'for last; do :; done; echo something else > "$last/package.tgz"' })}:${process.env.PATH}`
  const { status, stderr } = setUp(copy, [], { PATH: path })
  expect(stderr).toContain("npm's node-llama-cpp@3.22.1 is not what it was: its hash is sha512-")
  expect(status).toBe(1)
  expect(existsSync(join(copy, ".chorus/ggml"))).toBe(false)
})

// The launcher, on this Node and, where PATH has one, on an older one that has to start Node 24.
const olderNode = (process.env.PATH ?? "")
  .split(":")
  .map((folder) => join(folder, "node"))
  .find(
    (path) => existsSync(path) && /^v(18|20|22)\./.test(spawnSync(path, ["--version"], { encoding: "utf8" }).stdout),
  )

const script = (text: string): string => {
  const path = join(temporaryFolder(), "script.ts")
  writeFileSync(path, text)
  return path
}

const launch = (node: string, path: string, ...args: ReadonlyArray<string>) =>
  spawnSync(node, ["bin/node24.js", path, ...args], { cwd: ROOT, encoding: "utf8" })

const nodes = olderNode === undefined ? [process.execPath] : [process.execPath, olderNode]

test.each(nodes)("%s runs TypeScript on Node 24, with its arguments and exit code, and without warnings", (node) => {
  const path = script(
    "const words: Array<string> = process.argv.slice(2)\nconsole.log(process.version, ...words)\nprocess.exitCode = 7\n",
  )
  const { status, stdout, stderr } = launch(node, path, "a", "--b=c d")
  expect(stdout).toMatch(/^v24\.\S+ a --b=c d\n$/)
  expect({ status, stderr }).toEqual({ status: 7, stderr: "" })
})

const untilSignalled = `
process.on("SIGTERM", () => { console.log("told to end"); process.exit(5) })
setInterval(() => {}, 1000)
console.log(process.pid)
`

test.each(nodes)("%s passes SIGTERM on, and the exit code back", async (node) => {
  const child = spawn(node, ["bin/node24.js", script(untilSignalled)], { cwd: ROOT })
  await new Promise((resolve) => child.stdout.once("data", resolve))
  child.kill("SIGTERM")
  expect(await new Promise((resolve) => child.once("close", resolve))).toBe(5)
})

test.skipIf(olderNode === undefined)("a launcher that is killed takes its script with it", async () => {
  const child = spawn(olderNode ?? "", ["bin/node24.js", script(untilSignalled)], { cwd: ROOT })
  let output = ""
  child.stdout.on("data", (chunk) => {
    output += chunk
  })
  await new Promise((resolve) => child.stdout.once("data", resolve))
  child.kill("SIGKILL")
  await new Promise((resolve) => child.once("close", resolve)) // the script held the same stdout
  expect(output).toMatch(/^\d+\ntold to end\n$/)
})

test("the command says how to set up where that has not been done", () => {
  const copy = copyOfRepository()
  const { status, stderr } = spawnSync(process.execPath, [join(copy, "bin/chorus.js"), "generate"], {
    encoding: "utf8",
  })
  expect(stderr).toBe("Chorus is not set up yet: run `npm run setup` in its folder first.\n")
  expect(status).toBe(1)
})
