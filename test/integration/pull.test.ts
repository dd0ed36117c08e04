// chorus pull, and models by their names, as a user types them: against a server that speaks the hub's API.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, test } from "vitest"
import { gguf } from "../unit/model/fixtures.ts"
import { commandLineOfEach, interrupt } from "./commandLine.ts"
import { HubServer, TOKEN } from "./hub.ts"

const DEMO = join(import.meta.dirname, "../../models/demo/base")
const demoFiles = Object.fromEntries(readdirSync(DEMO).map((file) => [file, readFileSync(join(DEMO, file))]))
const model = gguf()
const OTHER = Buffer.from("of other tools")

const REPOSITORIES = {
  "tiny/Demo": { files: { ...demoFiles, "README.md": OTHER, "pytorch_model.bin": OTHER, "onnx/model.onnx": OTHER } },
  "tiny/Demo-GGUF": {
    files: { "demo-q4_k_m.gguf": model, "demo-q8_0.gguf": model, "mmproj-demo-f16.gguf": OTHER, "config.json": OTHER },
  },
  "tiny/Gated": { files: demoFiles, gated: true },
  "tiny/One-GGUF": { files: { "One.Q6_K.gguf": model } },
  "tiny/Split-GGUF": {
    files: { "Q8_0/s-Q8_0-00001-of-00002.gguf": model, "Q8_0/s-Q8_0-00002-of-00002.gguf": model },
  },
  "tiny/Pickled": { files: { "config.json": OTHER, "pytorch_model.bin": OTHER } },
}

const chorus = commandLineOfEach()
let hub: HubServer
let models: string
beforeEach(async () => {
  hub = await HubServer.start(REPOSITORIES)
  models = mkdtempSync(join(tmpdir(), "chorus-test-models-"))
})
afterEach(async () => {
  await hub[Symbol.asyncDispose]()
  rmSync(models, { recursive: true })
})

const environment = (more: Record<string, string> = {}) => ({
  env: { CHORUS_MODELS_DIR: models, HF_ENDPOINT: `${hub.url}/`, HF_TOKEN: "", ...more },
})
const pull = (name: string, more?: Record<string, string>) => chorus.run(["pull", name], environment(more))
const files = () => readdirSync(models, { recursive: true }).map(String).toSorted()
const listed = async () => {
  const { parts } = JSON.parse((await chorus.run(["doctor", "--json"], environment())).stdout)
  return parts.find(({ part }: { part: string }) => part === "models").detail
}

describe("pull", () => {
  test("brings a folder: what describes the model and its weights, and nothing else", async () => {
    const { code, stdout, stderr } = await pull("tiny/Demo")
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringContaining(join(models, "tiny/Demo")) })
    expect(stderr).toMatch(/tiny\/Demo is 10\.6 MiB: from http:.* into \//)
    expect(stderr).toContain("bringing model.safetensors ...")
    expect(files()).toEqual(
      ["tiny", "tiny/Demo", ...Object.keys(demoFiles).map((file) => `tiny/Demo/${file}`)].toSorted(),
    )
    for (const [file, bytes] of Object.entries(demoFiles)) {
      expect(readFileSync(join(models, "tiny/Demo", file)).equals(bytes), file).toBe(true)
    }
    expect(await listed()).toContain("tiny/Demo")
    hub.ranges.splice(0)
    expect((await pull("tiny/Demo")).code).toBe(0)
    expect(hub.ranges).toEqual([])
  })

  test("brings a GGUF file of the quantisation that is asked for, however it is written", async () => {
    expect((await pull("tiny/Demo-GGUF:Q4_K_M")).code).toBe(0)
    expect(files()).toEqual(["tiny", "tiny/Demo-GGUF", "tiny/Demo-GGUF/demo-q4_k_m.gguf"])
    expect(await listed()).toMatch(/tiny\/Demo-GGUF:q4_k_m \(.*KiB\)/)
    expect((await pull("tiny/One-GGUF")).code).toBe(0)
    expect(existsSync(join(models, "tiny/One-GGUF/One.Q6_K.gguf"))).toBe(true)
  })

  test("goes on by itself where a connection breaks, and fetches nothing twice", async () => {
    hub.cuts = [4_000_000, 1_000_000]
    expect((await pull("tiny/Demo")).code).toBe(0)
    const all = demoFiles["model.safetensors"]?.byteLength ?? 0
    expect(hub.ranges).toHaveLength(3)
    const [first, ...rest] = hub.ranges
    expect(first).toBe("all")
    const starts = rest.map((range) => Number(/^bytes=(\d+)-/.exec(range)?.[1]))
    expect(starts[0]).toBeGreaterThan(0)
    expect(starts[1]).toBeGreaterThan(starts[0] ?? all)
    expect(
      readFileSync(join(models, "tiny/Demo/model.safetensors")).equals(demoFiles["model.safetensors"] ?? OTHER),
    ).toBe(true)
  })

  test("leaves after Ctrl-C a part that is no model, which the next one goes on with", async () => {
    hub.holdsAt = 3_000_000
    const running = chorus.start(["pull", "tiny/Demo"], environment())
    const parts = () => files().filter((file) => /model\.safetensors.*part$/.test(file))
    await expect.poll(() => parts().map((part) => statSync(join(models, part)).size)).toEqual([3_000_000])
    const second = await pull("tiny/Demo")
    expect(second.stderr).toMatch(/tiny\/Demo: process \d+ is bringing it/)
    expect(second.code).toBe(1)
    interrupt(running)
    expect((await running.ended).code).toBe(130)
    expect(parts()).toHaveLength(1)
    expect(await listed()).toMatch(/^none in /)
    hub.holdsAt = Number.POSITIVE_INFINITY
    hub.ranges.splice(0)
    const { code, stderr } = await pull("tiny/Demo")
    expect(code).toBe(0)
    expect(stderr).toMatch(/tiny\/Demo is 10\.6 MiB, 7\.7 MiB of which are still to come/)
    expect(hub.ranges).toEqual([`bytes=3000000-${(demoFiles["model.safetensors"]?.byteLength ?? 0) - 1}`])
    expect(files().filter((file) => /part|lock|pulling/.test(file))).toEqual([])
  })

  test("killed, it leaves no lock that holds", async () => {
    hub.holdsAt = 1_000_000
    const running = chorus.start(["pull", "tiny/Demo"], environment())
    await expect.poll(() => files().some((file) => file.endsWith(".part"))).toBe(true)
    process.kill(-(running.child.pid ?? 0), "SIGKILL")
    await running.ended
    hub.holdsAt = Number.POSITIVE_INFINITY
    expect((await pull("tiny/Demo")).code).toBe(0)
  })

  test("takes no bytes that are not the file's", async () => {
    hub.damages = (bytes) => Buffer.from(bytes.map((byte, at) => (at === 5_000 ? byte ^ 1 : byte)))
    const { code, stderr } = await pull("tiny/Demo-GGUF:q8_0")
    expect(stderr).toMatch(
      /tiny\/Demo-GGUF: demo-q8_0\.gguf came damaged: its sha256 hash is [0-9a-f]{64}, not [0-9a-f]{64}/,
    )
    expect(code).toBe(1)
    expect(files().filter((file) => file.endsWith(".gguf"))).toEqual([])
    hub.damages = undefined
    expect((await pull("tiny/Demo-GGUF:q8_0")).code).toBe(0)
  })

  test("starts a part over that is not the file's beginning", async () => {
    hub.cuts = [2_000, 0, 0, 0, 0]
    expect((await pull("tiny/One-GGUF")).stderr).toMatch(/The same command goes on where this one ended/)
    const [part = ""] = files().filter((file) => file.endsWith(".part"))
    const path = join(models, part)
    writeFileSync(path, Buffer.alloc(statSync(path).size, 7))
    expect((await pull("tiny/One-GGUF")).code).toBe(0)
    expect(readFileSync(join(models, "tiny/One-GGUF/One.Q6_K.gguf")).equals(model)).toBe(true)
  })

  const refusals: ReadonlyArray<readonly [string, string, Record<string, string>, RegExp]> = [
    ["a choice", "tiny/Demo-GGUF", {}, /Choose one of tiny\/Demo-GGUF:q4_k_m \(.*GiB\), tiny\/Demo-GGUF:q8_0 \(/],
    [
      "a quantisation that is not there",
      "tiny/Demo-GGUF:q2_k",
      {},
      /has no GGUF file of q2_k\. Choose one of .*:q4_k_m/,
    ],
    ["a split model", "tiny/Split-GGUF:Q8_0", {}, /one of 2 files: a model that is split .* is not read/],
    ["weights of another kind", "tiny/Pickled", {}, /no model that Chorus reads.*model\.safetensors.*GGUF/],
    ["a gated one without a token", "tiny/Gated", {}, /HF_TOKEN.*It said: Access to model tiny\/Gated is restricted/],
    ["a token that is not taken", "tiny/Gated", { HF_TOKEN: "hf_wrong" }, /does not take the token of HF_TOKEN/],
    ["a token that is none", "tiny/Gated", { HF_TOKEN: "wrong" }, /access token must start with 'hf_'/],
    ["none of that name, to a stranger", "tiny/Nothing", {}, /no model of this name, or it is private, or gated/],
    ["none of that name", "tiny/Nothing", { HF_TOKEN: TOKEN }, /has no model of this name/],
    [
      "a hub that is not there",
      "tiny/Demo",
      { HF_ENDPOINT: "http://127.0.0.1:1" },
      /cannot reach http:\/\/127\.0\.0\.1:1: /,
    ],
    [
      "a disk that cannot be written",
      "tiny/Demo",
      { CHORUS_MODELS_DIR: "/dev/null/models" },
      /ENOTDIR: not a directory/,
    ],
  ]
  test.each(refusals)("refuses %s in words, and leaves nothing", async (_, name, more, message) => {
    const { code, stdout, stderr } = await pull(name, more)
    const said = stderr
      .split("\n")
      .filter((line) => line !== "" && !line.endsWith("...") && !/ is .* from http/.test(line))
    expect(said).toEqual([expect.stringMatching(message)])
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" })
    expect(files().filter((file) => /\.(gguf|safetensors)$/.test(file))).toEqual([])
  })

  test("a gated one comes with the token, which the storage never sees", async () => {
    expect((await pull("tiny/Gated", { HF_TOKEN: TOKEN })).code).toBe(0)
    expect(existsSync(join(models, "tiny/Gated/config.json"))).toBe(true)
  })

  test("a name that is none is a usage error", async () => {
    const { code, stderr } = await pull("demo.gguf")
    expect(stderr).toMatch(/^chorus: demo\.gguf: expected OWNER\/NAME/)
    expect(code).toBe(2)
  })
})

describe("a model by its name", () => {
  const generate = (...args: ReadonlyArray<string>) =>
    chorus.run(["generate", "--prompt", "export class", "--threads", "1", "--max-tokens", "4", ...args], environment())

  test("--base and --draft bring what only the hub has, after saying how large it is, and then ask it no more", async () => {
    const first = await generate("--base", "tiny/Demo", "--draft", "tiny/Gated", "--json")
    expect(first.stderr).toMatch(/tiny\/Demo is 10\.6 MiB/)
    expect(first.stderr).toMatch(
      /Access to model tiny\/Gated is restricted.*Nor is there a file or folder \/.*tiny\/Gated/,
    )
    const once = await generate("--base", "tiny/Demo", "--json")
    expect(once.code).toBe(0)
    expect(JSON.parse(once.stdout).tokens).toHaveLength(4)
    const { asked } = hub
    expect((await generate("--base", "tiny/Demo", "--json")).stdout).toContain(JSON.parse(once.stdout).text)
    expect(hub.asked).toBe(asked)
  })

  test("is looked for in the models folder, also one that was pulled; what is nowhere is told with where was looked", async () => {
    writeFileSync(join(models, "tiny.gguf"), model)
    mkdirSync(join(models, "twice/A"), { recursive: true })
    mkdirSync(join(models, "twice/B"), { recursive: true })
    for (const name of ["A", "B"]) writeFileSync(join(models, `twice/${name}/two.gguf`), model)
    const tooLong = async (name: string) => (await generate("--base", name, "--context", "99999")).stderr
    expect(await tooLong("tiny.gguf")).toContain(`${join(models, "tiny.gguf")}: a context of 99999`)
    expect(await tooLong("two.gguf")).toMatch(/two\.gguf could be twice\/A:two or twice\/B:two: say which/)
    expect(await tooLong("twice/A:two")).toContain(`${join(models, "twice/A/two.gguf")}: a context`)
    expect(await tooLong("twice/B")).toContain(`${join(models, "twice/B/two.gguf")}: a context`)
    expect(await tooLong("none.gguf")).toContain(
      `looked for ${join(process.cwd(), "none.gguf")}, ${join(models, "none.gguf")}`,
    )
    expect(await tooLong("models/dmeo")).toContain(`looked for ${join(process.cwd(), "models/dmeo")}, `)
    expect(hub.asked).toBe(0)
  })

  test("a deployment's file likewise; what only the hub has is to be pulled first", async () => {
    writeFileSync(join(models, "tiny.gguf"), model)
    const file = join(models, "deployment.json")
    const deploy = async (base: string) => {
      writeFileSync(file, JSON.stringify({ name: "x", base: { model: base }, context: 99_999 }))
      return (await chorus.run(["deploy", file], environment())).stderr
    }
    rmSync(join(models, "elsewhere"), { recursive: true, force: true })
    expect(await deploy("tiny.gguf")).toContain(`${join(models, "tiny.gguf")}: a context of 99999`)
    expect(await deploy("none.gguf")).toMatch(/base\.model: there is no model none\.gguf: looked for /)
    expect(await deploy("tiny/Demo")).toMatch(/base\.model: tiny\/Demo is not here: `chorus pull tiny\/Demo` brings it/)
  })
})
