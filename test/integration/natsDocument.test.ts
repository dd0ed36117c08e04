// docs/NATS.md's commands, typed as they stand but for the address: keys, a server with users and TLS, what runs there, and
// today's `nats` command with the keys of an operator and of a client.
import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, symlinkSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { freePort } from "../../bench/natsMonitor.ts"
import { type CommandLine, commandLine, type Started } from "./commandLine.ts"
import { blocksOf, exported, linesOf, ROOT } from "./document.ts"

const DOCUMENT = "docs/NATS.md"
const [setUp] = blocksOf(DOCUMENT, "Keys")
const [asOperator, asClient] = blocksOf(DOCUMENT, "With the command `nats`")
const READY = /Server is ready|serves at|has joined/

const PATH = `${process.env.PATH}:${join(ROOT, ".chorus/bin")}`
const missing = spawnSync("nats", ["--version"], { env: { ...process.env, PATH } }).error !== undefined

let chorus: CommandLine
let folder: string
let port: number
const running: Array<Started> = []

const line = (command: string) => {
  const here = command.replaceAll("--addr 10.0.0.5", `--addr 127.0.0.1 --port ${port}`)
  return `${exported(linesOf(setUp))}${here.replaceAll("10.0.0.5", "127.0.0.1").replaceAll(":4222", `:${port}`)}`
}
const type = (command: string) =>
  chorus.type(line(command), { cwd: folder, env: { HOME: folder, XDG_CONFIG_HOME: folder } })

beforeAll(async () => {
  chorus = commandLine()
  folder = mkdtempSync(join(tmpdir(), "chorus-test-nats-"))
  symlinkSync(join(ROOT, "models"), join(folder, "models"))
  port = await freePort()
})
afterAll(async () => {
  for (const { child } of running.toReversed()) {
    process.kill(-(child.pid ?? 0), "SIGTERM")
  }
  await Promise.all(running.map(({ ended }) => ended))
  chorus.close()
  rmSync(folder, { recursive: true })
})

test("the server, supervisors, hosts and operators of the first block", async () => {
  for (const command of linesOf(setUp).filter((one) => !one.startsWith("export "))) {
    const started = type(command)
    if (/ (keys|deploy) /.test(command)) {
      const { code, stdout } = await started.ended
      expect({ code, stdout }, command).toEqual({
        code: 0,
        stdout: expect.stringMatching(/keys are in|demo is deployed/),
      })
    } else {
      running.push(started)
      await started.says(READY)
    }
  }
})

describe.skipIf(missing)(
  `the command nats${missing ? " (go install github.com/nats-io/natscli/nats@v0.5.1)" : ""}`,
  () => {
    const says: ReadonlyArray<readonly [RegExp, RegExp]> = [
      [/ context add /, /Inbox Prefix: _INBOX\.U/],
      [/ micro ls/, /chorus-host[\s\S]*chorus-infer/],
      [/ micro info chorus-infer/, /chorus\.v1\.demo\.infer/],
      [/ micro stats chorus-host/, /chorus-host Service Statistics/],
      [/ kv get /, /"name": ?"demo"/],
      [/ request /, /"deployment":"demo"/],
      [/ sub /, /Received on "chorus\.v1\.@host\.[\w-]+\.beat"/],
    ]
    test.each([...linesOf(asOperator), ...linesOf(asClient)])("%s", async (command) => {
      const [, expected] = says.find(([of]) => of.test(command)) ?? []
      // A supervisor hears of the deployment a moment after the operator has stored it.
      await expect
        .poll(async () => (await type(command).ended).stdout, { timeout: 60_000, interval: 200 })
        .toMatch(expected ?? /^nothing is known of this command$/)
      expect((await type(command).ended).code).toBe(0)
    })
  },
)
