// What may be done on a NATS server of Chorus, and by which role: every act that a role needs, and those that none may do. The
// test tries each as each role; docs/NATS.md shows it as a table.
import type { Role } from "../../src/wire/permissions.ts"

export interface Act {
  readonly what: string // a row of the table
  readonly how: "publish" | "subscribe"
  readonly subjects: ReadonlyArray<string>
  readonly by: ReadonlyArray<Role> // every other role is refused
}

/** A session, whose name is known only to clients that were told it. */
const SESSION = "7d9f2a52-0a0e-4e0e-8a3e-0c7c9d0f1b11"

const demo = (...of: ReadonlyArray<string>): ReadonlyArray<string> => of.map((one) => `chorus.v1.demo.${one}`)
const api = (...of: ReadonlyArray<string>): ReadonlyArray<string> => of.map((one) => `$JS.API.${one}`)
const consumerOf = (filter: string): string => `CONSUMER.CREATE.CHORUS_TOKENS.c1.chorus.v1.demo.tokens.${filter}`

const publish = (what: string, by: Act["by"], subjects: Act["subjects"]): Act => ({
  what,
  how: "publish",
  subjects,
  by,
})
const hear = (what: string, by: Act["by"], subjects: Act["subjects"]): Act => ({ what, how: "subscribe", subjects, by })

const ASKERS: ReadonlyArray<Role> = ["gateway", "operator", "client"]

export const ACTS: ReadonlyArray<Act> = [
  publish("ask for a generation", ASKERS, demo("infer")),
  publish("read a session by its name", ASKERS, demo("read")),
  publish(
    "cancel a session by its name, say that one reads it",
    ASKERS,
    demo(`ctl.cancel.${SESSION}`, `ctl.interest.${SESSION}`),
  ),
  publish("ask who serves", [...ASKERS, "host"], ["$SRV.INFO.chorus-infer"]),
  publish("ask every service", ["operator"], ["$SRV.PING", "$SRV.STATS", "$SRV.INFO.chorus-rank"]),
  hear(
    "hear requests, and the names of sessions in them",
    ["supervisor"],
    demo("infer", "read", "ctl.cancel.*", "ctl.interest.*"),
  ),
  publish("write tokens", ["supervisor"], demo(`tokens.${SESSION}`)),
  hear("hear tokens, of all sessions or of one", [], demo("tokens.*", "tokens.>", `tokens.${SESSION}`)),
  publish(
    "have JetStream send a session's tokens",
    ["supervisor"],
    api(consumerOf(SESSION), consumerOf("*"), consumerOf(">"), "CONSUMER.CREATE.CHORUS_TOKENS.c1.>"),
  ),
  publish(
    "get tokens from JetStream",
    ["supervisor"],
    api(
      "DIRECT.GET.CHORUS_TOKENS",
      `DIRECT.GET.CHORUS_TOKENS.chorus.v1.demo.tokens.${SESSION}`,
      "DIRECT.GET.CHORUS_TOKENS.chorus.v1.demo.tokens.*",
      "CONSUMER.MSG.NEXT.CHORUS_TOKENS.c1",
    ),
  ),
  publish(
    "make the stream of tokens, look at it",
    ["supervisor"],
    api("STREAM.CREATE.CHORUS_TOKENS", "STREAM.UPDATE.CHORUS_TOKENS", "STREAM.INFO.CHORUS_TOKENS"),
  ),
  publish(
    "delete tokens",
    [],
    api("STREAM.DELETE.CHORUS_TOKENS", "STREAM.PURGE.CHORUS_TOKENS", "STREAM.MSG.DELETE.CHORUS_TOKENS"),
  ),
  publish(
    "list streams and readers, copy a stream",
    [],
    api(
      "STREAM.NAMES",
      "STREAM.LIST",
      "CONSUMER.NAMES.CHORUS_TOKENS",
      "CONSUMER.LIST.CHORUS_TOKENS",
      "STREAM.SNAPSHOT.CHORUS_TOKENS",
    ),
  ),
  publish(
    "say how far ranks are, and what is drafted",
    ["supervisor"],
    demo(`progress.${SESSION}`, `trace.${SESSION}`),
  ),
  hear("hear how far ranks are, and what is drafted", ["gateway", "operator"], demo("progress.*", "trace.*")),
  publish("write deployments, drain hosts", ["operator"], ["$KV.chorus_deployments.demo", "$KV.chorus_drains.one"]),
  publish(
    "read deployments and replicas",
    ["supervisor", "operator"],
    api(
      "DIRECT.GET.KV_chorus_deployments.$KV.chorus_deployments.demo",
      "DIRECT.GET.KV_chorus_replicas.$KV.chorus_replicas.demo",
      "CONSUMER.CREATE.KV_chorus_deployments.c1.$KV.chorus_deployments.>",
    ),
  ),
  publish(
    "write replicas, leases, executions",
    ["supervisor"],
    ["$KV.chorus_replicas.demo", "$KV.chorus_leases.controller", "$KV.chorus_executions.x"],
  ),
  publish(
    "read leases and executions",
    ["supervisor"],
    api(
      "DIRECT.GET.KV_chorus_executions.$KV.chorus_executions.x",
      "CONSUMER.CREATE.KV_chorus_leases.c1.$KV.chorus_leases.>",
    ),
  ),
  publish(
    "delete a bucket, or change its settings",
    [],
    api(
      "STREAM.DELETE.KV_chorus_deployments",
      "STREAM.PURGE.KV_chorus_replicas",
      "STREAM.UPDATE.KV_chorus_drains",
      "STREAM.CREATE.KV_chorus_other",
    ),
  ),
  publish("say what supervisors have to do", ["supervisor"], demo("demand")),
  hear("hear what supervisors have to do", ["supervisor", "operator"], demo("demand")),
  publish("say whose KV is kept", ["supervisor"], demo("kept")),
  hear("hear whose KV is kept", ["supervisor"], demo("kept")),
  publish("give orders to hosts", ["supervisor", "operator"], ["chorus.v1.@host.one.ctl"]),
  hear("hear orders to hosts", ["host"], ["chorus.v1.@host.one.ctl"]),
  publish("beat as a host", ["host"], ["chorus.v1.@host.one.beat"]),
  publish("call the roll of hosts", ["supervisor", "operator"], ["chorus.v1.@host"]),
  publish("ask whether a host's name is taken", ["host"], ["chorus.v1.@host.one.taken"]),
  hear("hear hosts", ["supervisor", "operator"], ["chorus.v1.@host.*.beat"]),
  publish("give orders to ranks", ["supervisor"], demo("group.1.base.pass", "group.1.base.ctl", "group.1.formation")),
  hear(
    "hear ranks' orders and activations",
    ["rank"],
    demo(
      "group.1.base.pass",
      "group.1.base.ctl",
      "group.1.base.act",
      "group.1.base.rank.0.act",
      "group.1.base.kv.0",
      "group.1.base.kv",
      "group.1.base.roll",
      "group.1.formation",
    ),
  ),
  publish("call the roll of ranks", ["supervisor", "operator"], demo("group.1.base.roll")),
  publish("send activations", ["rank"], demo("group.1.base.act", "group.1.base.rank.1.act")),
  publish("send KV, and ask for it", ["rank"], demo("group.1.base.kv.0", "group.1.base.kv")),
  publish("beat as a rank", ["rank"], demo("beat.1.base.0")),
  publish("beat as a supervisor", ["supervisor"], demo("beat.supervisor.x")),
  hear("hear beats", ["supervisor", "gateway", "operator"], demo("beat.>")),
  hear("answer as a supervisor", ["supervisor"], ["$SRV.INFO.chorus-infer"]),
  hear("answer as a rank", ["rank"], ["$SRV.INFO.chorus-rank"]),
  hear("answer as a host", ["host"], ["$SRV.INFO.chorus-host"]),
  hear("hear everything", [], [">", "chorus.>", "_INBOX.>", "$KV.>", "$JS.>", "$SRV.>"]),
  publish("ask the server itself", [], ["$SYS.REQ.SERVER.PING"]),
]
