// Brings the clients, pinned: those in JavaScript by npm into this folder, those in Python by uv into .chorus/clients. Their
// requirements contradict one another, OpenAI's three majors first of all, so they live in several environments. What is
// there already is not brought again.
import { spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"

const HERE = import.meta.dirname
const FOLDER = join(HERE, "../../.chorus/clients")

export type PythonName = "openai-1" | "openai-2" | "openai-3" | "evaluation"
export type EnvironmentName = PythonName | "javascript"

/** The interpreter of an environment, or why there is none. */
export type Installed = { readonly program: string } | { readonly missing: string }

/** vLLM itself needs a GPU's libraries; of its source the one module with its benchmark's request functions is run. */
export const VLLM = {
  version: "0.33.0",
  sha256: "f4c33c2503d52bb411146afa9618a4f48bed68912f617e6803ac8d76e4c74112", // of the source distribution
  module: join(FOLDER, "vllm-0.33.0/vllm/benchmarks/lib/endpoint_request_func.py"),
}

type Say = (line: string) => void

/** All environments, as far as they can be brought. */
export const installClients = async (say: Say): Promise<ReadonlyMap<EnvironmentName, Installed>> => {
  mkdirSync(FOLDER, { recursive: true })
  const uv = attempt(() => environment("uv", createByVenv, say))
  const python = async (name: PythonName, more: (python: string) => Promise<void> = async () => {}) => {
    const made = await uv
    if ("missing" in made) return made
    return attempt(async () => {
      const program = await environment(name, createByUv(made.program), say)
      await more(program)
      return program
    })
  }
  const [one, two, three, evaluation, javascript] = await Promise.all([
    python("openai-1", (program) => bringVllm(program, say)),
    python("openai-2"),
    python("openai-3"),
    python("evaluation"),
    attempt(() => bringJavaScript(say)),
  ])
  return new Map([
    ["openai-1", one],
    ["openai-2", two],
    ["openai-3", three],
    ["evaluation", evaluation],
    ["javascript", javascript],
  ])
}

const attempt = async (bring: () => Promise<string>): Promise<Installed> => {
  try {
    return { program: await bring() }
  } catch (error) {
    return { missing: error instanceof Error ? error.message : String(error) }
  }
}

type Create = (folder: string, requirements: ReadonlyArray<string>) => Promise<void>

/** Environments and the files that say what is in them; sglang's own requirements are those of its engine. */
const REQUIREMENTS: Readonly<Record<"uv" | PythonName, ReadonlyArray<string>>> = {
  uv: ["uv.txt"],
  "openai-1": ["openai-1.txt"],
  "openai-2": ["openai-2.txt"],
  "openai-3": ["openai-3.txt"],
  evaluation: ["evaluation.txt", "sglang.txt"],
}

/** An environment's interpreter; makes it where it is missing or made of other requirements. */
const environment = async (name: "uv" | PythonName, create: Create, say: Say): Promise<string> => {
  const folder = join(FOLDER, name)
  const requirements = REQUIREMENTS[name].map((file) => join(HERE, "python", file))
  const wanted = requirements.map((file) => readFileSync(file, "utf8")).join("")
  const mark = join(folder, "installed.txt") // written last
  const python = join(folder, "bin/python")
  if (existsSync(mark) && readFileSync(mark, "utf8") === wanted) return python
  say(`bringing ${name} into .chorus/clients`)
  rmSync(folder, { recursive: true, force: true })
  await create(folder, requirements)
  writeFileSync(mark, wanted)
  return python
}

const createByVenv: Create = async (folder, requirements) => {
  await run("python3", ["-m", "venv", folder])
  const quiet = ["--disable-pip-version-check", "--no-input", "--quiet"]
  const files = requirements.flatMap((file) => ["--requirement", file])
  await run(join(folder, "bin/python"), ["-m", "pip", "install", ...quiet, ...files])
}

const createByUv =
  (uvPython: string): Create =>
  async (folder, requirements) => {
    const uv = join(uvPython, "../uv")
    const python = join(folder, "bin/python")
    await run(uv, ["venv", "--quiet", "--python", uvPython, folder])
    // No dependencies but those that are listed: each file is a whole.
    const install = ["pip", "install", "--quiet", "--no-deps", "--require-hashes", "--python", python]
    await run(uv, [...install, ...requirements.flatMap((file) => ["--requirement", file])])
  }

const bringVllm = async (python: string, say: Say): Promise<void> => {
  if (existsSync(VLLM.module)) return
  say("bringing vLLM's source (47 MB)")
  const folder = join(FOLDER, "vllm")
  await run(join(python, "../unearth"), ["--no-binary", `vllm==${VLLM.version}`, "--download", folder])
  const archive = join(folder, `vllm-${VLLM.version}.tar.gz`)
  const found = createHash("sha256").update(readFileSync(archive)).digest("hex")
  if (found !== VLLM.sha256) throw new Error(`vLLM's source has the sum ${found} instead of ${VLLM.sha256}`)
  await run("tar", ["-xzf", archive, "-C", FOLDER, `vllm-${VLLM.version}/vllm/benchmarks/lib`])
  rmSync(folder, { recursive: true })
}

const bringJavaScript = async (say: Say): Promise<string> => {
  const lock = readFileSync(join(HERE, "package-lock.json"), "utf8")
  const mark = join(HERE, "node_modules/.installed.json")
  if (existsSync(mark) && readFileSync(mark, "utf8") === lock) return process.execPath
  say("bringing the clients in JavaScript into bench/clients")
  await run("npm", ["ci", "--prefix", HERE, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
  writeFileSync(mark, lock)
  return process.execPath
}

/** Fails with what the command has said last. */
const run = (command: string, args: ReadonlyArray<string>): Promise<void> =>
  new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"] })
    let said = ""
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-2_000)
    })
    child.once("error", (error) => reject(new Error(`${command} does not start: ${error.message}`)))
    child.once("close", (code) =>
      code === 0 ? resolve() : reject(new Error(`${command} ${args[0]} exited with ${code}: ${said.trim()}`)),
    )
  })
