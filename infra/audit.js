// node infra/audit.js
// Asks npm's registry for known vulnerabilities of the packages that Chorus runs with. Exits with 1 where one is high or
// critical. A registry without an audit service, or none that answers, fails nothing: it says that nothing was audited.
import { spawnSync } from "node:child_process"
import { npm } from "./tools.js"
import { inRoot } from "./workspace.js"

const [command, ...first] = npm() ?? ["npm"]
const { stdout, stderr } = spawnSync(command, [...first, "audit", "--json", "--omit=dev", "--audit-level=high"], {
  cwd: inRoot(),
  encoding: "utf8",
  timeout: 120_000,
})

const report = () => {
  try {
    return JSON.parse(stdout)
  } catch {
    return { message: stderr.trim().split("\n")[0] || "npm said nothing" }
  }
}

const { vulnerabilities, metadata, message, error } = report()
if (vulnerabilities === undefined) {
  const reason = message ?? error?.summary ?? "its answer is no report"
  process.stdout.write(`audit: NOT AUDITED, no audit service could be asked: ${reason}\n`)
} else {
  const serious = Object.values(vulnerabilities).filter(
    ({ severity }) => severity === "high" || severity === "critical",
  )
  for (const { name, severity, range, via } of serious) {
    const titles = via.map((one) => (typeof one === "string" ? `through ${one}` : `${one.title} (${one.url})`))
    process.stdout.write(`audit: ${name} ${range} is ${severity}: ${titles.join("; ")}\n`)
  }
  const { total } = metadata.dependencies
  process.stdout.write(`audit: ${total} packages, ${serious.length} with a vulnerability that is high or critical\n`)
  if (serious.length > 0) process.exitCode = 1
}
