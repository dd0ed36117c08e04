// README's section on two machines, tried as it is written: two network namespaces are the machines.
import { spawnSync } from "node:child_process"
import { join } from "node:path"
import { expect, test } from "vitest"

const ROOT = join(import.meta.dirname, "../..")

/** Why namespaces cannot be had here; null where they can. */
const obstacle = (): string | null => {
  if (process.getuid?.() !== 0) return "needs root"
  const probe = `chorus-probe-${process.pid}`
  const made = spawnSync("ip", ["netns", "add", probe])
  if (made.error !== undefined) return "needs iproute2"
  if (made.status !== 0) return `no network namespaces here: ${made.stderr}`
  const linked = spawnSync("ip", ["-n", probe, "link", "add", "v0", "type", "veth", "peer", "name", "v1"])
  spawnSync("ip", ["netns", "del", probe])
  return linked.status === 0 ? null : `no veth here: ${linked.stderr}`
}

const reason = obstacle()

test.skipIf(reason !== null)(
  `the ranks of one group run on both machines${reason === null ? "" : `: ${reason}`}`,
  () => {
    const { status, stdout, stderr } = spawnSync(join(ROOT, "infra/two-machines.sh"), { encoding: "utf8" })
    expect({ status, stderr }).toMatchObject({ status: 0 })
    expect(stdout).toMatch(/^demo is deployed/m)
    expect(stdout).toMatch(/^demo +ready +1 of 0\.\.1 .*(one|two): .*draft \d; (one|two): .*draft \d/m)
    expect(stdout).toMatch(/^one +ready .*\ntwo +ready /m)
    expect(stderr).toMatch(/cold start, from the request to the first token/)
  },
)
