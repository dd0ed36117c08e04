// The command line: `npx chorus COMMAND`. Each command is a file of its own; run.ts says how it ends.
import * as NodeServices from "@effect/platform-node/NodeServices" // the whole package takes half a second to load
import { Effect, Layer } from "effect"
import { CliConfig, CliOutput, Command, GlobalFlag } from "effect/cli"
import { VERSION } from "../bus/version.ts"
import { withValuesJoined } from "./arguments.ts"
import { chaos } from "./chaos.ts"
import { demo } from "./demo.ts"
import { deploy } from "./deploy.ts"
import { doctor } from "./doctor.ts"
import { drain } from "./drain.ts"
import { gateway } from "./gateway.ts"
import { generate } from "./generate.ts"
import { host } from "./host.ts"
import { keys } from "./keys.ts"
import { ls } from "./ls.ts"
import { presenter } from "./presenter.ts"
import { ps } from "./ps.ts"
import { pull } from "./pull.ts"
import { rm } from "./rm.ts"
import { run } from "./run.ts"
import { supervisor } from "./supervisor.ts"
import { up } from "./up.ts"

const chorus = Command.make("chorus").pipe(
  Command.withDescription("Serve large language models from ranks over NATS, sped up losslessly by EasySpec"),
  Command.withSubcommands([
    ...([generate, up, deploy, ls, rm, ps, host, drain, supervisor, gateway, keys, pull, doctor, chaos, demo] as const),
  ]),
)

Command.runWith(chorus, { version: VERSION })(withValuesJoined(process.argv.slice(2))).pipe(
  Effect.provide(
    Layer.mergeAll(
      NodeServices.layer,
      CliOutput.layerPresenter(presenter),
      CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions] }),
    ),
  ),
  run,
)
