// chorus up: a deployment with all that it needs on this machine, until Ctrl-C. SIGTERM drains it and exits with 0.
import { basename, join } from "node:path"
import { Console, Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import { nameOfMachine } from "../host/host.ts"
import { type Machine, startMachine } from "../local/machine.ts"
import { ALWAYS, HTTP_ENVIRONMENT } from "../wire/deployment.ts"
import * as flags from "./flags.ts"
import { contextOf } from "./models.ts"
import { located } from "./named.ts"
import { deploymentOf } from "./placement.ts"
import { progressOn } from "./progress.ts"
import { counted } from "./quantities.ts"
import { terminated } from "./run.ts"
import { announce, folderOf } from "./runtimeState.ts"
import { keysFor } from "./server.ts"

const options = {
  ...flags.placement,
  fuzzy: flags.speculation.fuzzy,
  name: flags.deploymentName.pipe(
    Flag.withDescription("of the deployment (default: demo, or the base's name)"),
    Flag.optional,
  ),
  nats: flags.nats.pipe(
    Flag.withDescription("use this NATS server (default: starts one, on a free port of this machine)"),
    Flag.optional,
  ),
  keys: flags.keys.pipe(
    Flag.withDescription(
      "folder of keys for --nats, as `chorus keys` makes it (default: CHORUS_NATS_KEYS; a server of its own has new ones)",
    ),
  ),
  "idle-timeout": flags
    .duration("idle-timeout")
    .pipe(
      Flag.withDescription(
        "stop the ranks after so long without sessions, and start them with the next request (default: never)",
      ),
      Flag.optional,
    ),
  ...flags.http,
  retention: flags.retention,
  json: flags.jsonOf("when ready, print one object instead of a line: nats, keys, http, deployment, pids"),
}

type Options = flags.Values<typeof options>

export const up = Command.make("up", options, (given) =>
  Effect.raceFirst(terminated, Effect.scoped(serve(given))),
).pipe(
  Command.withDescription("Start a deployment on this machine and serve it until Ctrl-C"),
  Command.withExamples([
    { command: "chorus up", description: "The demo pair; then, elsewhere: chorus generate --name demo --prompt x" },
    {
      command: "chorus up --base model.gguf --draft small.gguf --draft-ranks 3 --name coder",
      description: "Another pair",
    },
    {
      command: "chorus up --port 0 --api-keys keys.txt",
      description: "HTTP on a free port, for clients that have a key",
    },
    {
      command: "chorus up --nats nats://10.0.0.5:4222",
      description: "Ranks of this machine on a NATS that runs already",
    },
  ]),
)

const serve = Effect.fnUntraced(function* (asked: Options) {
  const progress = progressOn(process.stderr)
  const given = yield* located(asked, progress)
  const name = Option.getOrElse(given.name, () => nameOf(given))
  const placed = yield* deploymentOf(given, {
    name,
    speculation: true,
    fuzzy: given.fuzzy,
    context: yield* contextOf(given),
  })
  const deployment = Option.match(given.retention, {
    onNone: () => placed,
    onSome: (retentionMillis) => ({ ...placed, retentionMillis }),
  })
  const started = Date.now()
  if (isOpen(given)) {
    yield* Console.error(
      `chorus: any client that reaches ${given.host}:${given.port} may generate: --api-keys asks for a key.`,
    )
  }
  const idleTimeoutMillis = Option.getOrNull(given["idle-timeout"])
  const machine = yield* startMachine(
    {
      ...deployment,
      ...ALWAYS,
      idleTimeoutMillis,
      replicas: { ...ALWAYS.replicas, min: idleTimeoutMillis === null ? 1 : 0 },
    },
    {
      ...{ nats: Option.getOrNull(given.nats), keys: keysFor(given) },
      host: `${nameOfMachine()}-${name}`.slice(0, 64),
      gateway: flags.httpEnvironment(given),
      progress,
      tell: (line) => {
        progress.clear()
        process.stderr.write(`chorus: ${line}\n`)
      },
    },
  )
  yield* announce(folderOf(process.env), { name, nats: machine.url, keys: machine.keys })
  progress.clear()
  const up = { name, machine }
  yield* Console.log(given.json ? JSON.stringify(objectOf(up)) : lineOf(up, Date.now() - started))
  return yield* machine.failed
})

/** The base's file name as a name for subjects. */
const nameOf = ({ base }: Options): string =>
  Option.match(base, {
    onNone: () => "demo",
    onSome: (path) =>
      basename(path, ".gguf")
        .replaceAll(/[^A-Za-z0-9_-]+/g, "-")
        .slice(0, 64) || "base",
  })

/** Whether others than this machine's users reach the gateway, and need no key. */
const isOpen = ({ host, "api-keys": file }: Options): boolean =>
  !["127.0.0.1", "::1", "localhost"].includes(host) && Option.isNone(file) && !process.env[HTTP_ENVIRONMENT.keys]

interface Up {
  readonly name: string // of the deployment
  readonly machine: Machine
}

const objectOf = ({ name, machine: { url, keys, http, pids } }: Up) => ({
  nats: url,
  keys,
  http,
  deployment: name,
  pids,
})

const lineOf = ({ name, machine: { url, keys, http, pids } }: Up, millis: number): string => {
  const ranks = [counted(pids.base.length, "base rank"), counted(pids.draft.length, "draft rank")].join(" and ")
  return `${name} is ready at ${http}/v1 and ${url}: ${ranks}, in ${(millis / 1000).toFixed(1)} s.${keys === null ? "" : ` Clients of NATS show ${join(keys, "client/client.nk")}.`} Try: npx chorus generate --name ${name} --prompt 'export class'`
}
