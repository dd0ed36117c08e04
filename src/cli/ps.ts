// chorus ps: the actors of the deployments on a server, by the NATS services protocol ($SRV), and what each rank says of
// itself in its heartbeats: device, shard, memory, sessions.
import { Console, Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import { samplingOf } from "../wire/samplingDefaults.ts"
import { type Census, census, type HostSeen, type ServiceSeen } from "./census.ts"
import { CommandFailed } from "./errors.ts"
import * as flags from "./flags.ts"
import { bytes, counted, milliseconds } from "./quantities.ts"
import { samplingText } from "./sampling.ts"
import { at, keysFor, type Server, serversHere } from "./server.ts"
import { table } from "./table.ts"

export const ps = Command.make(
  "ps",
  {
    nats: flags.nats.pipe(
      Flag.withDescription("the NATS server to look at (default: those of `chorus up` on this machine)"),
      Flag.optional,
    ),
    keys: flags.keys,
    json: flags.jsonOf("print one array, an object for each server"),
  },
  Effect.fnUntraced(function* ({ nats, keys, json }) {
    const given = Option.map(nats, (url): Server => ({ url, keys: keysFor({ nats, keys }) }))
    const looked = Option.isSome(given) ? [given.value] : yield* here
    const servers = yield* Effect.forEach(
      looked,
      (server) => Effect.map(at(server, census), (seen) => ({ nats: server.url, ...seen })),
      { concurrency: "unbounded" },
    )
    yield* Console.log(json ? JSON.stringify(servers, null, 2) : servers.flatMap(pageOf).join("\n"))
  }),
).pipe(
  Command.withDescription("List the hosts, actors, devices, shards and sessions of running deployments"),
  Command.withExamples([
    { command: "chorus ps", description: "What `chorus up` runs on this machine" },
    { command: "chorus ps --nats nats://10.0.0.5:4222", description: "What runs on a server" },
    { command: "chorus ps --json | jq '.[].ranks[] | {group, rank, state}'", description: "For a script" },
  ]),
)

const here = Effect.suspend(() => {
  const servers = serversHere()
  if (servers.length > 0) return Effect.succeed(servers)
  const reason = "nothing runs on this machine. Start it with `chorus up`, or name a server with --nats."
  return Effect.fail(new CommandFailed({ reason }))
})

const pageOf = (server: { readonly nats: string } & Census): ReadonlyArray<string> => {
  const { hosts, services, ranks } = server
  if (hosts.length + services.length + ranks.length === 0) return [`${server.nats}: no actor of Chorus answers there`]
  const actors = table(
    ["deployment", "actor", "id", "requests", "errors", "samples with"].map((title, index) => ({
      title,
      align: index < 3 || index > 4 ? "left" : "right",
    })),
    services.map((service) => [
      service.deployment,
      service.name,
      service.id,
      String(sum(service.endpoints.map((endpoint) => endpoint.num_requests))),
      String(sum(service.endpoints.map((endpoint) => endpoint.num_errors))),
      samplesWith(service),
    ]),
  )
  const titles = [
    "deployment",
    "rank",
    "state",
    "sessions",
    "weights",
    "kv",
    "kv sent", // to a standby
    "pid",
    "strategy",
    "device",
    "model",
    "shard",
  ]
  const rankTable = table(
    titles.map((title, index) => ({ title, align: index >= 3 && index <= 7 ? "right" : "left" })),
    ranks.map((rank) => [
      rank.deployment,
      rank.rank < rank.ranks ? `${rank.group} ${rank.rank + 1}/${rank.ranks}` : `${rank.group} standby`,
      rank.state === "loading" ? `loading ${Math.round(rank.progress * 100)}%` : rank.state,
      String(rank.sessions),
      bytes(rank.bytesOfWeights),
      bytes(rank.bytesOfKv),
      bytes(rank.kvBytes),
      String(rank.pid),
      rank.strategy,
      rank.device,
      rank.model.split("/").at(-1) ?? rank.model,
      rank.shard,
    ]),
  )
  const counts = [counted(hosts.length, "host"), counted(services.length, "service"), counted(ranks.length, "rank")]
  const tables = [hosts.length > 0 ? hostTable(hosts) : [], services.length > 0 ? actors : [], rankTable]
  const pages = tables.filter((_, index) => index < 2 || ranks.length > 0).filter((lines) => lines.length > 0)
  return [`${server.nats}: ${counts.join(", ")}`, ...pages.flatMap((lines) => ["", ...lines])]
}

/** What the model's files want where a request does not say; only supervisors know it. */
const samplesWith = ({ metadata }: ServiceSeen): string =>
  metadata.sampling === undefined ? "" : samplingText(samplingOf(metadata)) || "the request's settings"

const hostTable = (hosts: ReadonlyArray<HostSeen>): ReadonlyArray<string> =>
  table(
    ["host", "state", "ranks", "cores", "free", "hop", "devices"].map((title, index) => ({
      title,
      align: index >= 2 && index <= 5 ? "right" : "left",
    })),
    hosts.map(({ name, state, ranks, cores, memoryFree, hopMillis, devices }) => [
      ...[name, state, String(ranks), String(cores), bytes(memoryFree), milliseconds(hopMillis)],
      devices.map((device) => device.name).join(", "),
    ]),
  )

const sum = (numbers: ReadonlyArray<number>): number => numbers.reduce((total, number) => total + number, 0)
