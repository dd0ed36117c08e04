// Goal: what is packed works where nothing else of Chorus is: on each Node that it says it runs on, on Deno and on Bun.
// Method: the tarballs are installed in an empty project, and the packages' own examples run there against a deployment.
import { execFileSync, spawn } from "node:child_process"
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { Cluster } from "./cluster.ts"
import { Server } from "./rankGroup.ts"

const ROOT = join(import.meta.dirname, "../..")
const RUNTIMES = join(ROOT, ".chorus/runtimes") // kept: they are large, and do not change
const brought = (path: string): string => join(RUNTIMES, "node_modules", path)

const PROGRAMS = {
  "Node 20": [brought("node20/bin/node")],
  "Node 22": [brought("node22/bin/node")],
  "Node 24": [process.execPath],
  Bun: [brought("@oven/bun-linux-x64/bin/bun")],
  Deno: [brought("@deno/linux-x64-glibc/deno"), "run", "--allow-all"],
} as const
const others = process.platform === "linux" && process.arch === "x64" // for which the other runtimes are brought
const programs = Object.entries(PROGRAMS).filter(([name]) => others || name === "Node 24")

const run = (cwd: string, command: string, ...args: ReadonlyArray<string>): string =>
  execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] })
const npm = (cwd: string, ...args: ReadonlyArray<string>): string =>
  run(cwd, "npm", ...args, "--prefer-offline", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts")

interface Ran {
  readonly code: number | null
  readonly output: string
}

/** A script of the project, with what it says on stdout and stderr. */
const script = (program: ReadonlyArray<string>, file: string, ...args: ReadonlyArray<string>): Promise<Ran> =>
  new Promise((resolve, reject) => {
    const [command = "", ...first] = program
    const env = { ...process.env, NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" }
    const child = spawn(command, [...first, file, ...args], { cwd: project, env, stdio: ["ignore", "pipe", "pipe"] })
    let output = ""
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk))
    child.once("error", reject)
    child.once("close", (code) => resolve({ code, output }))
  })

let project: string
let cluster: Cluster
let server: Server
beforeAll(async () => {
  project = mkdtempSync(join(tmpdir(), "chorus-test-project-"))
  run(ROOT, process.execPath, "packages/build.js")
  for (const name of ["client", "durable"]) npm(join(ROOT, "packages", name), "pack", "--pack-destination", project)
  writeFileSync(join(project, "package.json"), JSON.stringify({ type: "module" }))
  const tarballs = readdirSync(project).filter((file) => file.endsWith(".tgz"))
  npm(project, "install", ...tarballs.map((file) => `./${file}`))
  for (const name of ["client", "durable"]) {
    cpSync(join(project, "node_modules/@chorus", name, "examples"), join(project, name), { recursive: true })
  }
  if (others) bringRuntimes()
  cluster = await Cluster.start({ name: "demo" })
  process.env.CHORUS_NATS_KEYS = cluster.local.keys ?? ""
  server = await Server.start()
})
afterAll(async () => {
  delete process.env.CHORUS_NATS_KEYS
  await cluster?.[Symbol.asyncDispose]()
  await server?.[Symbol.asyncDispose]()
  rmSync(project, { recursive: true, force: true })
})

const bringRuntimes = (): void => {
  const wanted = readFileSync(join(ROOT, "packages/runtimes/package-lock.json"), "utf8")
  const lock = join(RUNTIMES, "package-lock.json")
  const whole = join(RUNTIMES, "node_modules/.package-lock.json") // npm writes it last
  if (existsSync(whole) && readFileSync(lock, "utf8") === wanted) return
  mkdirSync(RUNTIMES, { recursive: true })
  cpSync(join(ROOT, "packages/runtimes"), RUNTIMES, { recursive: true })
  npm(RUNTIMES, "ci", "--no-engine-strict")
}

describe.each(programs)("@chorus/client on %s", (_, program) => {
  const example = async (name: string): Promise<string> => {
    const { code, output } = await script(program, `client/${name}.js`, cluster.local.url)
    expect({ code, output }).toMatchObject({ code: 0 })
    return output
  }

  test("an answer comes token by token, and as a whole", async () => {
    const { text, tokens } = await cluster.client.complete({
      ...{ prompt: "export class Queue<T> {\n", maxTokens: 24, seed: 7n },
    })
    expect(await example("stream")).toBe(`${text}\nlength: ${tokens.length} tokens, ${text.length} characters\n`)
  })

  test("a session is read on by another connection", async () => {
    expect(await example("resume")).toBe("24 tokens, the last 16 read by themselves\ntrue\n")
  })

  test("a signal, cancel() and leaving the loop end a session", async () => {
    expect(await example("cancel")).toBe("AbortError\ncancelled\ncancelled\n")
  })

  test("errors are classes, and name the field", async () => {
    const [range, unknown, nobody, nowhere] = (await example("errors")).split("\n")
    expect(range).toMatch(/^temperature: /)
    expect(unknown).toMatch(/^maxTokns: there is no such field\. There are: deployment, prompt, /)
    expect([nobody, nowhere]).toEqual(["nobody serves nobody", "true"])
  })

  test("as an Effect service", async () => {
    expect(await example("effect")).toMatch(/\n12 tokens\nInvalidRequest of topP\n$/)
  })
})

describe.each(programs)("@chorus/durable on %s", (name, program) => {
  test("a workflow runs to its end", async () => {
    const order = name.replace(" ", "")
    const { code, output } = await script(program, "durable/order.js", server.url, order)
    const done = [`prints the label of ${order}`, `hands over label ${order}`, `shipped: label ${order}`]
    expect(output).toBe(`${done.join("\n")}\n`)
    expect(code).toBe(0)
  })
})

test.skipIf(!others).each([
  ["@chorus/client", "client/stream.js"],
  ["@chorus/durable", "durable/order.js"],
])("%s says at once that Node 18 is too old", async (name, file) => {
  const { code, output } = await script([brought("node18/bin/node")], file)
  expect(output).toContain(`Error: ${name} runs on Node 20.3 or newer, on Deno and on Bun; this is Node 18.20.8.`)
  expect(code).toBe(1)
})

test.each(["client", "durable"])("what @chorus/%s does not export cannot be imported", async (name) => {
  const dist = join(project, "node_modules/@chorus", name, "dist")
  const files = readdirSync(dist, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".js"))
  expect(files).toContain("index.js")
  for (const path of [...files.map((file) => `@chorus/${name}/dist/${file}`), `@chorus/${name}/internal/src.js`]) {
    writeFileSync(join(project, "inside.js"), `import ${JSON.stringify(path)}\n`)
    expect((await script(PROGRAMS["Node 24"], "inside.js")).output).toContain("ERR_PACKAGE_PATH_NOT_EXPORTED")
  }
})

test.each(["client", "durable"])("@chorus/%s can be required", async (name) => {
  writeFileSync(join(project, "required.cjs"), `console.log(Object.keys(require("@chorus/${name}")).length > 0)\n`)
  expect(await script(PROGRAMS["Node 24"], "required.cjs")).toEqual({ code: 0, output: "true\n" })
})

test("a tarball holds the package and nothing else", () => {
  const files = (name: string): ReadonlyArray<string> =>
    readdirSync(join(project, "node_modules/@chorus", name), { recursive: true, encoding: "utf8" })
      .filter((file) => !["dist", "dist/internal", "examples"].includes(file))
      .filter((file) => !/^dist\/(internal\/)?\w+(\.d\.ts|\.js)$|^examples\/\w+\.js$/.test(file))
      .sort()
  for (const name of ["client", "durable"]) expect(files(name)).toEqual(["LICENSE", "README.md", "package.json"])
})

test.each([
  ["nodenext", "nodenext"],
  ["esnext", "bundler"],
])("the client's types are its own, and hold in a strict project: %s, resolved as %s", (module, resolution) => {
  const types = join(project, "node_modules/@chorus/client/dist")
  const ofOthers = readdirSync(types)
    .filter((file) => file.endsWith(".d.ts") && file !== "effect.d.ts")
    .filter((file) => /(?:from |import\(|types=)["'](?!\.\/(?!effect))/.test(readFileSync(join(types, file), "utf8")))
  expect(ofOthers).toEqual([])
  writeFileSync(join(project, "types.ts"), TYPED)
  const strict = [
    "--strict",
    "--exactOptionalPropertyTypes",
    ...["--module", module, "--moduleResolution", resolution, "--target", "esnext"],
    "--lib",
    "esnext,dom",
    "--types",
    "",
  ]
  const tsc = join(ROOT, "node_modules/typescript/bin/tsc")
  expect(run(project, process.execPath, tsc, "--noEmit", ...strict, "types.ts")).toBe("")
})

/** Every mistake that is marked has to be one, and nothing else. */
const TYPED = `import { connect, InvalidRequest, isChorusError } from "@chorus/client"
const chorus = await connect({ servers: ["nats://a", "nats://b"] })
const answer = chorus.generate({ prompt: "a", seed: 1 })
for await (const { text, position } of answer) console.log(text.length + position)
const reason: "stop" | "length" | "deadline" | "cancelled" = (await answer).finishReason
// @ts-expect-error no such field
chorus.generate({ prompt: "a", maxTokns: 1 })
// @ts-expect-error the package makes its errors itself
new InvalidRequest()
try {
  await chorus.close()
} catch (error) {
  if (error instanceof InvalidRequest) console.log(error.field.length)
  if (isChorusError(error) && error._tag === "Overloaded") console.log(error.retryAfterMillis + 1)
}
console.log(reason)
`

describe("READMEs", () => {
  test.each(["client", "durable"])("%s: each example that it names is there", (name) => {
    const readme = readFileSync(join(ROOT, "packages", name, "README.md"), "utf8")
    const named = [...readme.matchAll(/\(examples\/(\w+\.js)\)/g)].map(([, file]) => file)
    expect(named.sort()).toEqual(readdirSync(join(ROOT, "packages", name, "examples")).sort())
  })
})
