// A machine's host: says what the machine has and what it runs, looks at models, starts and stops ranks when told to.
import { hostname } from "node:os"
import { Effect, Schema, Stream, SubscriptionRef } from "effect"
import type { Access } from "../bus/access.ts"
import { Bus, beating } from "../bus/bus.ts"
import { ProcessId } from "../bus/processId.ts"
import { openDrains } from "../store/deployments.ts"
import { codec } from "../wire/codec.ts"
import { HOST_BEAT_MILLIS, HostAnswer, HostBeat, type HostDevice, HostRequest } from "../wire/host.ts"
import { hostSubjects, isInbox, isName, ROLL_CALL, SUPERVISORS } from "../wire/subjects.ts"
import { MachineParts } from "./machine.ts"
import { type HostRanks, hostRanks } from "./ranks.ts"

const beats = codec("host beat", HostBeat)
const requests = codec("host request", HostRequest)
const answers = codec("host answer", HostAnswer)

/** The way to the server changes seldom. */
const HOP_EVERY_BEATS = 20

/** How long a host of the same name has to say that it is there. */
const TAKEN_MILLIS = 2 * HOST_BEAT_MILLIS

const DRAIN_LOOK_MILLIS = 50

const NOTHING = new Uint8Array(0)

/** Longer than a supervisor that leaves lets its sessions end: after this long without one, nothing will move the ranks elsewhere. */
const ALONE_MILLIS = 6_000
const ALONE_LOOK_MILLIS = 1_000

/** Sessions whose time here is over have moved, and the ranks have ended, by then. */
const MOVE_MILLIS = 5_000

export interface HostOptions {
  readonly url: string // of NATS, for its ranks
  readonly access: Access // the host's own; the keys of ranks lie beside it
  readonly name: string
  readonly cores: number | null // of the machine's, where not all
  readonly memory: number | null // bytes, likewise
  readonly drainMillis: number // how long the sessions of its ranks have to end when it does
}

/** The machine's name as one for subjects. */
export const nameOfMachine = (): string =>
  hostname()
    .replaceAll(/[^A-Za-z0-9_-]+/g, "-")
    .slice(0, 48) || "machine"

export class HostTaken extends Schema.TaggedError<HostTaken>()("HostTaken", { name: Schema.String }) {
  override get message() {
    return `a host ${this.name} has joined already. End it first, or give this one another --name.`
  }
}

/**
 * Serves until the scope closes, and drains first: the controller places others, and ends its ranks when their sessions are over
 * or can go on elsewhere. It drains likewise, and stays, while its name is in the bucket of drains.
 */
export const host = Effect.fnUntraced(function* (options: HostOptions) {
  const { publish, subscribe, respond, register } = yield* Bus
  if (!isName(options.name)) return yield* Effect.die(new Error(`${options.name} is no name for a host`))
  yield* free(options.name)
  const subjects = hostSubjects(options.name)
  const drains = yield* Effect.flatMap(openDrains, ({ follow }) => follow)
  let leaving: "not yet" | "soon" | "now" = "not yet"
  const drain = (): Pick<HostBeat, "state" | "drainMillis"> => {
    if (leaving !== "not yet")
      return { state: leaving === "now" ? "left" : "draining", drainMillis: options.drainMillis }
    const told = SubscriptionRef.getUnsafe(drains).get(options.name)?.value
    return told === undefined
      ? { state: "ready", drainMillis: 0 }
      : { state: "draining", drainMillis: told.limitMillis }
  }
  const machine = yield* MachineParts
  const pid = yield* ProcessId
  const devices = yield* machine.devices
  let hopMillis = yield* measureHop
  let ranks: HostRanks | undefined
  const message = () =>
    beats.encode(
      beatOf(options, machine, { pid, ...drain(), hopMillis, devices: devices(), ranks: ranks?.all() ?? [] }),
    )
  const say = (): void => publish(subjects.beat, message())
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      leaving = "now" // its ranks have ended
      say()
    }),
  )
  ranks = yield* hostRanks(options, say)
  const running = ranks
  yield* register({
    name: "chorus-host",
    description: `ranks on ${options.name}`,
    metadata: metadataOf(options, machine, pid, devices()),
    endpoint: "ctl",
    subject: subjects.control,
    queue: "",
    answer: (bytes) =>
      Effect.fromResult(requests.decode(bytes)).pipe(
        Effect.flatMap((request) => answerTo(running, request)),
        Effect.catchCause((cause) =>
          Effect.succeed<HostAnswer>({ _tag: "HostRefused", reason: String(cause).replaceAll(/\s*\n\s*/g, " ") }),
        ),
        Effect.map((answer) => ({ bytes: answers.encode(answer) })),
      ),
  })
  yield* subscribe(ROLL_CALL, say)
  yield* subscribe(subjects.taken, (message) => (isInbox(message.reply ?? "") ? respond(message) : undefined))
  yield* beating(HOST_BEAT_MILLIS, say)
  const measure = Effect.map(measureHop, (millis) => {
    hopMillis = millis
  })
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(HOP_EVERY_BEATS * HOST_BEAT_MILLIS), measure)))
  yield* SubscriptionRef.changes(drains).pipe(
    Stream.runForEach(() => Effect.sync(say)),
    Effect.forkScoped,
  )
  const left = Effect.gen(function* () {
    while (running.all().length > 0) yield* Effect.sleep(DRAIN_LOOK_MILLIS)
  })
  const alone = Effect.gen(function* () {
    for (let since = performance.now(); performance.now() - since < ALONE_MILLIS; ) {
      if (yield* hasSupervisor) since = performance.now()
      yield* Effect.sleep(ALONE_LOOK_MILLIS)
    }
  })
  yield* Effect.addFinalizer(() =>
    Effect.gen(function* () {
      leaving = "soon"
      say()
      yield* Effect.timeoutOption(
        Effect.raceFirst(left, alone),
        options.drainMillis === 0 ? 0 : options.drainMillis + MOVE_MILLIS,
      )
    }),
  )
})

const answerTo = Effect.fnUntraced(function* (ranks: HostRanks, request: HostRequest) {
  switch (request._tag) {
    case "Look": {
      const { lookAt } = yield* MachineParts
      const models = yield* Effect.forEach(request.models, lookAt)
      return { _tag: "Looked", models } satisfies HostAnswer
    }
    case "StartRanks": {
      const { deployment, epoch } = request
      const started = yield* Effect.forEach(request.ranks, ({ group, rank, device, bytes }) =>
        ranks.start({ place: { deployment: deployment.name, epoch, group, rank }, deployment, device, bytes }),
      )
      return { _tag: "Started", ranks: started } satisfies HostAnswer
    }
    case "StopRanks":
      return { _tag: "Stopped", ranks: yield* ranks.stop(request) } satisfies HostAnswer
  }
})

/** Whether one answers: where there is none, or no server, everything is about to end. */
const hasSupervisor = Effect.flatMap(Bus, ({ request }) =>
  Effect.isSuccess(request(SUPERVISORS, NOTHING, { withinMillis: ALONE_LOOK_MILLIS })),
)

/** A ping's way to the server and back: what a message from rank to rank takes at least. */
const measureHop = Effect.gen(function* () {
  const { flush } = yield* Bus
  const times: Array<number> = []
  for (let i = 0; i < 5; i++) {
    const began = performance.now()
    yield* Effect.ignore(flush)
    times.push(performance.now() - began)
  }
  return times.sort((a, b) => a - b)[2] ?? 0
})

/** Two hosts of one name would both start what one of them is told to. */
const free = Effect.fnUntraced(function* (name: string) {
  const { request } = yield* Bus
  const answered = request(hostSubjects(name).taken, NOTHING, { withinMillis: TAKEN_MILLIS })
  if (yield* Effect.isSuccess(answered)) return yield* new HostTaken({ name })
})

type Condition = Pick<HostBeat, "pid" | "state" | "drainMillis" | "hopMillis" | "devices" | "ranks">

const beatOf = ({ name, cores, memory }: HostOptions, machine: MachineParts, condition: Condition): HostBeat => {
  const reserved = condition.ranks.reduce((sum, { bytes }) => sum + bytes, 0)
  const { total, available } = machine.memory()
  const memoryTotal = Math.min(memory ?? Number.POSITIVE_INFINITY, total)
  return {
    ...{ _tag: "HostBeat", name, cores: cores ?? machine.cores() },
    ...{ memoryTotal, memoryFree: Math.max(0, Math.min(available, memoryTotal - reserved)) },
    ...condition,
  }
}

const metadataOf = (
  { name, cores }: HostOptions,
  machine: MachineParts,
  pid: number,
  devices: ReadonlyArray<HostDevice>,
) => ({
  host: name,
  pid: `${pid}`,
  cores: `${cores ?? machine.cores()}`,
  devices: devices.map((device) => device.name).join(", "),
})
