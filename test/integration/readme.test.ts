// README's blocks from "A real pair" to "Deployments that come and go", typed as they stand but for the port. The hub is
// one of the test's own, and what it has by those names are models of the format, small enough to be fetched.
// (The first block is `npm run demo`, which cliGenerate.test.ts runs; "Two machines" is infra/two-machines.sh.)
import { existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { freePort } from "../../bench/natsMonitor.ts"
import { gguf } from "../unit/model/fixtures.ts"
import { type CommandLine, commandLine, type Started } from "./commandLine.ts"
import { blocksOf, linesOf, ROOT } from "./document.ts"
import { HubServer } from "./hub.ts"

const README = "README.md"
const [PAIR] = blocksOf(README, "A real pair")
const [HTTP] = blocksOf(README, "HTTP")
const [SCRIPT] = blocksOf(README, "HTTP", "js")
const [FILE] = blocksOf(README, "Deployments that come and go", "json")

const model = gguf({ metadata: { "llama.context_length": 512 } })
const of = (size: string) => ({
  [`Qwen/Qwen2.5-Coder-${size}-Instruct-GGUF`]: {
    files: { [`qwen2.5-coder-${size.toLowerCase()}-instruct-q4_k_m.gguf`]: model, "README.md": Buffer.from("# Qwen") },
  },
})

let chorus: CommandLine
let folder: string
let hub: HubServer
let port: number
let up: Started

const type = (line: string) =>
  chorus.type(line.replaceAll("8080", `${port}`), {
    cwd: folder,
    env: {
      ...{ CHORUS_MODELS_DIR: join(folder, "models"), HF_ENDPOINT: hub.url, HF_TOKEN: "" },
      CHORUS_HTTP_PORT: `${port}`,
    },
  })
const typed = async (line: string) => {
  const { code, stdout } = await type(line).ended
  expect({ code, stdout }, line).toMatchObject({ code: 0 })
  return stdout
}

beforeAll(async () => {
  chorus = commandLine()
  folder = mkdtempSync(join(tmpdir(), "chorus-test-readme-"))
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"))
  hub = await HubServer.start({ ...of("1.5B"), ...of("0.5B") })
  port = await freePort()
})
afterAll(async () => {
  up?.child.kill("SIGTERM")
  await up?.ended
  const left = { processes: chorus.processes(), files: chorus.files() }
  chorus.close()
  await hub[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true })
  expect(left).toEqual({ processes: [], files: [] })
})

test("a real pair: pulled, found by its names, and generated with", async () => {
  const [base, draft, generate = "", ...more] = linesOf(PAIR)
  expect(more).toEqual([])
  for (const pull of [base, draft]) expect(await typed(pull ?? "")).toMatch(/is at .*\.gguf/)
  expect(await typed(generate)).toMatch(/128 tokens in .* tokens\/s/)
})

describe("HTTP", () => {
  beforeAll(async () => {
    const [start = ""] = linesOf(HTTP)
    expect(start).toMatch(/ &$/)
    up = type(start.replace(/ &$/, ""))
    await up.says(/demo is ready at/)
  })

  test("a request by curl streams", async () => {
    expect(await typed(linesOf(HTTP).slice(1).join("\n"))).toMatch(/^data: \{.*"text":/m)
  })

  test("a request by the openai package streams", async () => {
    writeFileSync(join(folder, "stream.mjs"), (SCRIPT ?? "").replaceAll("8080", `${port}`))
    expect(await typed(`"${process.execPath}" stream.mjs`)).toMatch(/\S/)
  })

  test("a deployment's file is stored, and generate --name finds it", async () => {
    writeFileSync(join(folder, "coder.json"), FILE ?? "")
    expect(await typed("npx chorus deploy coder.json")).toMatch(/coder is deployed/)
    const options = "--max-tokens 4 --json 2>/dev/null"
    const { tokens, stats } = JSON.parse(await typed(`npx chorus generate --name coder --prompt 'def' ${options}`))
    expect(tokens).toHaveLength(4)
    expect(stats.coldStart).toBeDefined()
    const { stdout } = await type("npx chorus generate --name nobody --prompt x").ended
    expect(stdout).toMatch(/no deployment nobody: here is demo, coder/)
    expect(existsSync(join(folder, "models/.pulling"))).toBe(false)
  })
})
