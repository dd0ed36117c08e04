// The command line as a user sees it: each refusal's message and exit code, before any rank starts.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, test } from "vitest"
import { commandLineOfEach } from "./commandLine.ts"

const chorus = commandLineOfEach()
const folder = mkdtempSync(join(tmpdir(), "chorus-test-"))

afterAll(() => rmSync(folder, { recursive: true }))

describe("usage errors exit with 2 and name what is wrong on one line of stderr", () => {
  const cases: ReadonlyArray<readonly [string, ReadonlyArray<string>, RegExp]> = [
    ["an unknown command", ["generat"], /Unknown subcommand "generat".*generate/],
    ["an unknown option", ["generate", "--prompt", "x", "--temprature", "1"], /Unrecognized flag: --temprature/],
    ["an unknown option of up", ["up", "--prompt", "x"], /Unrecognized flag: --prompt/],
    ["a port that is none", ["up", "--port", "65536"], /--port: "65536".*65535/],
    ["a value out of range", ["generate", "--prompt", "x", "--max-tokens", "0"], /--max-tokens: "0".*1 or more/],
    ["a value of the wrong kind", ["generate", "--prompt", "x", "--temperature", "hot"], /--temperature: "hot"/],
    ["a missing value", ["generate", "--prompt"], /--prompt/],
    ["a strategy that is none", ["generate", "--prompt", "x", "--strategy", "tensor"], /--strategy: "tensor".*"layer"/],
    ["half a tree", ["generate", "--prompt", "x", "--tree", "5,4"], /--tree: "5,4".*depth,width,nodes/],
    ["a seed beyond 64 bits", ["generate", "--prompt", "x", "--seed", `${2n ** 64n}`], /--seed.*2\^64 - 1/],
    ["a name with a dot", ["up", "--name", "a.b"], /--name: "a\.b".*letters, digits/],
    ["a URL that is none", ["ps", "--nats", "localhost"], /--nats: "localhost".*nats:\/\//],
    ["a time that is none", ["up", "--idle-timeout", "soon"], /--idle-timeout: "soon".*30s/],
    ["a size that is none", ["host", "--nats", "nats://127.0.0.1:1", "--memory", "8"], /--memory: "8".*8G/],
    ["a host without a server", ["host"], /--nats/],
    ["a deployment without a file", ["deploy"], /file/],
    ["too many words", ["generate", "once", "upon"], /"once"/],
    ["no prompt", ["generate"], /the prompt is empty.*--prompt/],
    ["a tree and no speculation", ["generate", "--prompt", "x", "--tree", "1,1,1", "--no-speculation"], /exclude/],
    ["a tree without a draft", ["generate", "--prompt", "x", "--tree", "1,1,1", "--base", folder], /--draft/],
    ["two ranks of a single", ["generate", "--prompt", "x", "--strategy", "single", "--draft-ranks", "2"], /one rank/],
    ["a name and ranks", ["generate", "--prompt", "x", "--name", "demo", "--threads", "1"], /--name.*--threads/],
  ]
  test.each(cases)("%s", async (_, args, message) => {
    const { code, stdout, stderr } = await chorus.run(args)
    expect(stderr).toMatch(message)
    expect(stderr.split("\n")[0]).toMatch(/^chorus: /)
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" })
  })
})

describe("what cannot be done exits with 1 and says why on one line of stderr", () => {
  const corrupt = join(folder, "corrupt.gguf")
  const unknown = join(folder, "unknown")
  writeFileSync(corrupt, "GGUF and then nothing")
  mkdirSync(unknown)
  writeFileSync(
    join(unknown, "config.json"),
    JSON.stringify({ architectures: ["MambaForCausalLM"], model_type: "mamba" }),
  )
  const none = join(folder, "none.gguf")
  const demo = join(import.meta.dirname, "../../models/demo/base")
  let files = 0
  const file = (deployment: unknown): string => {
    const path = join(folder, `deployment-${++files}.json`)
    writeFileSync(path, JSON.stringify(deployment))
    return path
  }
  const generate = ["generate", "--prompt", "x"]
  const cases: ReadonlyArray<readonly [string, ReadonlyArray<string>, RegExp]> = [
    ["a model that is not there", [...generate, "--base", none], /none\.gguf: there is nothing at this path/],
    ["a corrupt file", [...generate, "--base", corrupt], /corrupt\.gguf/],
    ["an unknown architecture", [...generate, "--base", unknown], /mamba/i],
    ["a draft that is not there", [...generate, "--draft", none], /none\.gguf/],
    ["a context beyond the model's", [...generate, "--context", "100000"], /100000.*1024/],
    ["a device that is not there", [...generate, "--device", "CUDA77"], /CUDA77/],
    ["up with a model that is not there", ["up", "--base", none], /none\.gguf/],
    [
      "a server that is not there",
      [...generate, "--nats", "nats://127.0.0.1:1"],
      /cannot reach NATS at nats:\/\/127\.0\.0\.1:1/,
    ],
    ["a deployment that is no JSON", ["deploy", corrupt], /corrupt\.gguf: is no JSON/],
    [
      "a deployment with fields of the wrong kind",
      ["deploy", file({ name: "x", base: { model: none, ranks: 0 }, queue: "long", speed: 1 })],
      /speed: expected no excess.*base\.ranks: expected .*queue: expected number/,
    ],
    ["a deployment of a name that is none", ["deploy", file({ name: "a.b", base: { model: none } })], /name: expected/],
    [
      "a deployment without its model",
      ["deploy", file({ name: "x", base: { model: none } })],
      /base\.model: .*nothing at/,
    ],
    [
      "a deployment with a draft that cannot be read",
      ["deploy", file({ name: "x", base: { model: demo }, draft: { model: corrupt } })],
      /draft\.model: .*corrupt\.gguf/,
    ],
    [
      "a deployment with too long a context",
      ["deploy", file({ name: "x", base: { model: demo }, context: 9999 })],
      /context: .*9999.*1024/,
    ],
    [
      "more replicas at least than at most",
      ["deploy", file({ name: "x", base: { model: demo }, replicas: { min: 3, max: 2 } })],
      /replicas: min is 3, more than max, which is 2/,
    ],
    ["ls of nothing", ["ls"], /nothing runs on this machine.*chorus up/],
    ["a host of a server that is not there", ["host", "--nats", "nats://127.0.0.1:1"], /cannot reach NATS/],
    ["ps of nothing", ["ps"], /nothing runs on this machine.*chorus up/],
    ["ps of a server that is not there", ["ps", "--nats", "nats://127.0.0.1:1"], /cannot reach NATS/],
    ["a deployment that does not run", [...generate, "--name", "nobody"], /nobody.*chorus up/],
  ]
  test.each(cases)("%s", async (_, args, message) => {
    const { code, stdout, stderr } = await chorus.run(args)
    const lines = stderr.split("\n").filter((line) => line !== "" && !line.endsWith("..."))
    expect(lines).toHaveLength(1)
    expect(lines[0]).toMatch(message)
    expect(lines[0]).toMatch(/^chorus: /)
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" })
  })
})

const COMMANDS = [
  "generate",
  "demo",
  "up",
  "deploy",
  "ls",
  "rm",
  "ps",
  "host",
  "drain",
  "supervisor",
  "gateway",
  "keys",
  "pull",
  "chaos",
  "doctor",
]

describe("help", () => {
  test.each(COMMANDS)("of %s has examples", async (command) => {
    const { code, stdout, stderr } = await chorus.run([command, "--help"])
    expect(stdout).toContain(`chorus ${command}`)
    expect(stdout).toContain("EXAMPLES")
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
  })

  test("names every command, and what may be negated", async () => {
    const { stdout } = await chorus.run(["--help"])
    for (const command of COMMANDS) expect(stdout).toContain(command)
    expect((await chorus.run(["generate", "--help"])).stdout).toContain("--[no-]deterministic")
  })

  test("of what serves HTTP names the limit of a body, as SECURITY.md says", async () => {
    const limit = /an HTTP body[^|]*\| 1 MiB \| `chorus (\w+) --help`/.exec(readFileSync("SECURITY.md", "utf8"))
    for (const command of [limit?.[1] ?? "", "up"]) {
      expect((await chorus.run([command, "--help"])).stdout).toMatch(/--body-limit[\s\S]*1048576/)
    }
  })

  test("the version is the package's", async () => {
    expect((await chorus.run(["--version"])).stdout).toMatch(/^chorus \d+\.\d+\.\d+\n$/)
  })
})

describe("doctor", () => {
  test("finds everything here, and the devices", async () => {
    const { code, stdout } = await chorus.run(["doctor", "--json"])
    const { ok, parts, devices } = JSON.parse(stdout)
    expect(parts.filter(({ state }: { state: string }) => state === "missing")).toEqual([])
    expect({ ok, code }).toEqual({ ok: true, code: 0 })
    expect(devices).toContainEqual(expect.objectContaining({ name: "CPU", kind: "cpu" }))
  })

  test("names what is missing and what brings it", async () => {
    const { code, stdout, stderr } = await chorus.run(["doctor"], {
      env: { CHORUS_NATS_SERVER: "/nowhere/nats-server" },
    })
    expect(stdout).toMatch(/✗ nats-server.*\/nowhere\/nats-server/)
    expect(stderr).toMatch(/^chorus: missing: nats-server\. Run `npm run setup`\.\n$/)
    expect(code).toBe(1)
  })

  test("says where it looked for models", async () => {
    const { stdout } = await chorus.run(["doctor"], { env: { CHORUS_MODELS_DIR: folder } })
    expect(stdout).toContain(`${folder}: corrupt.gguf`)
  })
})
