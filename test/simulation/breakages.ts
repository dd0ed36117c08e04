// Where the breakages of mutation.ts are put in: between an actor and its bus, between it and its storage, and in the storage.
// Those of the engine are in engine.ts, those of readers in reader.ts.
import { Effect, Result } from "effect"
import { Bus, type Message } from "../../src/bus/bus.ts"
import { Storage } from "../../src/store/storage.ts"
import { codec } from "../../src/wire/codec.ts"
import { HostBeat } from "../../src/wire/host.ts"
import { PassCommand } from "../../src/wire/pass.ts"
import { TOKEN_STREAM } from "../../src/wire/subjects.ts"
import { entryOf, type Ledger, RECORDS, REPLICAS, withEntry } from "./ledger.ts"
import type { Mutation } from "./mutation.ts"
import type { StorageOptions } from "./storage.ts"

const commands = codec("pass command", PassCommand)
const beats = codec("host beat", HostBeat)

/** A process's bus, broken as the mutation has it. */
export const breakBus = (
  mutation: Mutation | null,
  bus: Bus["Service"],
  kind: "rank" | "other",
  ledger: Ledger,
): Bus["Service"] => {
  switch (mutation) {
    case "ranks take old attempts for new ones":
      return kind === "rank" ? Bus.of({ ...bus, subscribe: renumbering(bus) }) : bus
    case "a rank's answer reaches whoever asked last":
      return kind === "rank" ? Bus.of({ ...bus, ...misdirected(bus) }) : bus
    case "what has moved away is not freed":
      return Bus.of({ ...bus, publish: unlessDraining(bus, ledger) })
    case "a host answers for another epoch":
      return Bus.of({ ...bus, publish: ofNewestEpoch(bus, ledger) })
    default:
      return bus
  }
}

const isPass = (subject: string): boolean => subject.endsWith(".pass")

const renumbering = ({ subscribe }: Bus["Service"]): Bus["Service"]["subscribe"] => {
  let newest = 0
  return (subject, heard, options) =>
    subscribe(
      subject,
      (message) => {
        const command = isPass(subject) ? commands.decode(message.data) : null
        if (command === null || Result.isFailure(command)) return heard(message)
        heard({ ...message, data: commands.encode({ ...command.success, attempt: newest++ }) })
      },
      options,
    )
}

const misdirected = ({ subscribe, respond }: Bus["Service"]): Pick<Bus["Service"], "subscribe" | "respond"> => {
  let latest: Message | null = null
  return {
    subscribe: (subject, heard, options) =>
      subscribe(
        subject,
        (message) => {
          if (isPass(subject)) latest = message
          heard(message)
        },
        options,
      ),
    respond: (to, data) => respond(isPass(to.subject) ? (latest ?? to) : to, data),
  }
}

/** chorus.v1.<deployment>.group.<epoch>.<group>.ctl */
const unlessDraining =
  ({ publish }: Bus["Service"], ledger: Ledger): Bus["Service"]["publish"] =>
  (subject, data, reply) => {
    const [, , deployment = "", group, epoch, , verb] = subject.split(".")
    if (group === "group" && verb === "ctl" && ledger.drains(deployment, Number(epoch))) return
    publish(subject, data, reply)
  }

const ofNewestEpoch =
  ({ publish }: Bus["Service"], ledger: Ledger): Bus["Service"]["publish"] =>
  (subject, data, reply) => {
    const beat = subject.includes("@host") && data !== undefined ? beats.decode(data) : null
    if (beat === null || Result.isFailure(beat)) return publish(subject, data, reply)
    const ranks = beat.success.ranks.map((one) => ({ ...one, epoch: ledger.highest(one.deployment) }))
    publish(subject, beats.encode({ ...beat.success, ranks }), reply)
  }

/** What a storage does not look at. */
const UNCHECKED: Partial<Record<Mutation, string>> = {
  "the log takes an entry whatever sequence it expects": TOKEN_STREAM,
  "a record is taken whatever its revision": RECORDS.stream,
  "an old controller writes over its successor's record": REPLICAS.stream,
}

interface Broken extends Pick<StorageOptions, "read" | "deaf"> {
  readonly wrap: (storage: Storage["Service"]) => Storage["Service"]
}

export const breakStorage = {
  anySequence: (mutation: Mutation | null, stream: string): boolean =>
    mutation !== null && UNCHECKED[mutation] === stream,
  /** An owner that neither reads who has written to its log nor hears who has taken its record. */
  of: (mutation: Mutation | null): Broken => {
    if (mutation !== "an owner does not look whether it still is the owner") return { wrap: (storage) => storage }
    const own = new Set<string>()
    return {
      read: (stored) => withEntry(stored, { ...entryOf(stored), epoch: 1 }),
      deaf: (stream, { subject }) => stream === RECORDS.stream && own.has(subject),
      wrap: (storage) =>
        Storage.of({
          ...storage,
          append: (message) =>
            Effect.suspend(() => {
              if (message.stream === RECORDS.stream) own.add(message.subject)
              return storage.append(message)
            }),
        }),
    }
  },
}
