// chorus doctor: what is installed, what is missing and how to get it, which devices there are. Exit code 1 when something
// is missing without which nothing runs.
import { Console, Effect } from "effect"
import { Command } from "effect/cli"
import { inker, wantsColour } from "./colour.ts"
import { CommandFailed } from "./errors.ts"
import * as flags from "./flags.ts"
import { type Diagnosis, diagnose, type Finding } from "./installation.ts"
import { bytes } from "./quantities.ts"
import { table } from "./table.ts"

export const doctor = Command.make(
  "doctor",
  { json: flags.jsonOf("print one object: ok, parts, devices") },
  Effect.fnUntraced(function* ({ json }) {
    const diagnosis = yield* diagnose
    const missing = diagnosis.findings.filter(({ state }) => state === "missing")
    yield* Console.log(json ? JSON.stringify(objectOf(diagnosis), null, 2) : pageOf(diagnosis).join("\n"))
    if (missing.length > 0) {
      const parts = missing.map(({ part }) => part).join(", ")
      return yield* new CommandFailed({ reason: `missing: ${parts}. Run \`${missing[0]?.remedy}\`.` })
    }
  }),
).pipe(
  Command.withDescription(
    "Say what is installed, what is missing and what to do about it, and which devices there are",
  ),
  Command.withExamples([
    { command: "chorus doctor", description: "Look at everything" },
    { command: "chorus doctor --json | jq .devices", description: "The devices, for a script" },
  ]),
)

const objectOf = ({ findings, devices }: Diagnosis) => ({
  ok: findings.every(({ state }) => state !== "missing"),
  parts: findings,
  devices,
})

const MARK: Record<Finding["state"], string> = { ok: "✓", missing: "✗", absent: "-" }

const pageOf = ({ findings, devices }: Diagnosis): ReadonlyArray<string> => {
  const ink = inker(wantsColour(process.stdout, process.env))
  const width = Math.max(...findings.map(({ part }) => part.length))
  const parts = findings.flatMap(({ part, state, detail, remedy }) => [
    `${ink(state === "ok" ? "green" : state === "missing" ? "yellow" : "dim", MARK[state])} ${part.padEnd(width)}  ${detail}`,
    ...(remedy === "" ? [] : [`  ${" ".repeat(width)}  ${ink("dim", `→ ${remedy}`)}`]),
  ])
  const deviceTable = table(
    [
      { title: "device", align: "left" },
      { title: "variant", align: "left" },
      { title: "free", align: "right" },
      { title: "memory", align: "right" },
      { title: "what it is", align: "left" },
    ],
    devices.map((device) => [
      device.name,
      device.variant,
      bytes(device.memoryFree),
      bytes(device.memoryTotal),
      device.description,
    ]),
  )
  return devices.length === 0 ? parts : [...parts, "", ...deviceTable]
}
