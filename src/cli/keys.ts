// chorus keys: the rights on a NATS server, as files: a folder for each role with its key, and one for the server.
import { hostname } from "node:os"
import { Console, Effect } from "effect"
import { Command, Flag } from "effect/cli"
import { makeKeys } from "../natsServer/keyFolder.ts"
import * as flags from "./flags.ts"

/** An address or a name of a machine, as it stands in a certificate. */
const ADDRESS = /^[A-Za-z0-9._:-]{1,253}$/

const options = {
  out: Flag.String("out").pipe(
    Flag.withDescription("folder that is made for them; one that is there is left alone"),
    Flag.withMetavar("FOLDER"),
    Flag.withDefault("keys"),
  ),
  deployment: flags
    .names("deployment")
    .pipe(Flag.withDescription("whose ranks have a key of their own; may be given several times"), Flag.atLeast(0)),
  client: flags
    .names("client")
    .pipe(
      Flag.withDescription("a user that asks, and sees nothing of others; may be given several times (default: one)"),
      Flag.atLeast(0),
    ),
  server: Flag.String("server").pipe(
    Flag.filter(
      (address) => ADDRESS.test(address),
      () => "an address or a name of a machine",
    ),
    Flag.withDescription("address by which the server is reached; may be given several times (default: this machine)"),
    Flag.withMetavar("ADDRESS"),
    Flag.atLeast(0),
  ),
}

type Options = flags.Values<typeof options>

export const keys = Command.make(
  "keys",
  options,
  Effect.fnUntraced(function* ({ out, deployment, client, server }: Options) {
    const servers = server.length > 0 ? server : ["localhost", "127.0.0.1", hostname()]
    const made = yield* makeKeys({ folder: out, deployments: deployment, clients: client, servers })
    yield* Console.log(
      [
        `${made.length} keys are in ${out}: a folder for each role, to be kept secret, and ${out}/server for the server, whose certificate is for ${servers.join(", ")}.`,
        `Try: nats-server -c ${out}/server/nats.conf; every command of chorus takes --keys ${out}, or the folder of its role.`,
      ].join("\n"),
    )
  }),
).pipe(
  Command.withDescription(
    "Make keys and a certificate for a NATS server, so that each role may do what it needs and no more",
  ),
  Command.withExamples([
    {
      command: "chorus keys --server 10.0.0.5",
      description: "Into keys/, for a server that is reached at this address",
    },
    {
      command: "chorus keys --out prod --deployment coder --client alice --client bob --server nats.example.com",
      description: "The ranks of coder, Alice and Bob have keys of their own",
    },
  ]),
)
