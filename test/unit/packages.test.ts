// What comes from npm is what the lockfile says, runs nothing when it is installed, and is audited where that is possible.
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { gunzipSync } from "node:zlib"
import { describe, expect, onTestFinished, test } from "vitest"

const ROOT = join(import.meta.dirname, "../..")

interface Locked {
  readonly integrity?: string
  readonly resolved?: string
  readonly link?: boolean
  readonly hasInstallScript?: boolean
}

const packagesOf = (lockfile: string): ReadonlyArray<readonly [string, Locked]> => {
  const { packages }: { packages: Record<string, Locked> } = JSON.parse(readFileSync(join(ROOT, lockfile), "utf8"))
  const brought = ([path, { link }]: [string, Locked]) => path.startsWith("node_modules/") && link !== true // not our own
  return Object.entries(packages).filter(brought)
}

const LOCKFILES = [
  "package-lock.json",
  "bench/package-lock.json",
  "bench/clients/package-lock.json",
  "packages/docs/package-lock.json",
  "packages/runtimes/package-lock.json",
]

describe.each(LOCKFILES)("%s", (lockfile) => {
  test("knows every package by its content", () => {
    const unknown = packagesOf(lockfile).filter(([, { integrity }]) => !integrity?.startsWith("sha512-"))
    expect(unknown).toEqual([])
  })

  test("names no place but the registry that npm is set to", () => {
    expect(packagesOf(lockfile).filter(([, { resolved }]) => resolved !== undefined)).toEqual([])
  })
})

test("nothing is run when packages are installed, and what would like to be is known", () => {
  expect(readFileSync(join(ROOT, ".npmrc"), "utf8")).toMatch(/^ignore-scripts=true$/m)
  expect(readFileSync(join(ROOT, "infra/packages.js"), "utf8")).toContain('"--ignore-scripts"')
  const wishing = LOCKFILES.flatMap((lockfile) =>
    packagesOf(lockfile).flatMap(([path, { hasInstallScript }]) => (hasInstallScript === true ? [path] : [])),
  )
  expect(wishing).toEqual(["node_modules/msgpackr-extract", "node_modules/node-llama-cpp"])
})

describe("the audit", () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, "node_modules/msgpackr/package.json"), "utf8"))

  /** Runs it against a registry that gives this answer to the list of packages, and knows one of them. */
  const audit = async (status: number, advisories: object) => {
    let asked: ReadonlyArray<string> = []
    const msgpackr = { name: "msgpackr", versions: { [version]: { name: "msgpackr", version } } }
    const server = createServer(async (request, response) => {
      const body = Buffer.concat(await Array.fromAsync(request))
      const bulk = request.method === "POST"
      if (bulk) asked = Object.keys(JSON.parse(gunzipSync(body).toString()))
      response.writeHead(status, { "content-type": "application/json" })
      response.end(JSON.stringify(bulk ? advisories : msgpackr))
    })
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
    onTestFinished(() => void server.close())
    const { port } = server.address() as AddressInfo
    const cache = mkdtempSync(join(tmpdir(), "chorus-npm-"))
    onTestFinished(() => rmSync(cache, { recursive: true, force: true }))
    const registry = { npm_config_registry: `http://127.0.0.1:${port}/`, npm_config_cache: cache }
    const child = spawn(process.execPath, ["infra/audit.js"], {
      cwd: ROOT,
      env: { ...process.env, ...registry, npm_config_fetch_retries: "0" },
    })
    let output = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text
    })
    const [code] = await once(child, "close")
    return { code, output, asked }
  }

  test("says how many packages it has asked for", async () => {
    const { code, output, asked } = await audit(200, {})
    expect(asked).toContain("msgpackr")
    expect(output).toMatch(/^audit: \d+ packages, 0 with a vulnerability that is high or critical\n$/)
    expect(code).toBe(0)
  })

  test.each([
    ["high", 1],
    ["moderate", 0],
  ])("a vulnerability that is %s", async (severity, expected) => {
    const advisory = { id: 1, url: "https://example.com/1", title: "A hole", severity, vulnerable_versions: "*" }
    const { code, output } = await audit(200, { msgpackr: [advisory] })
    expect(output).toContain(expected === 1 ? "msgpackr * is high: A hole (https://example.com/1)" : " 0 with ")
    expect(code).toBe(expected)
  })

  test.each([405, 500])("a registry that answers %i: nothing was audited, which fails nothing", async (status) => {
    const { code, output } = await audit(status, {})
    expect(output).toMatch(/^audit: NOT AUDITED, no audit service could be asked: /)
    expect(code).toBe(0)
  })
})
