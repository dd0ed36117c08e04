// The simulated cluster: hosts with the ranks that the controller places there, supervisors, clients, and what may happen to
// them. Who kills a process kills it without a word; what starts it again is its host, or, for hosts and supervisors, whoever
// looks after them.
import type { Fiber } from "effect"
import { Result } from "effect"
import type { Message } from "../../src/bus/bus.ts"
import { codec } from "../../src/wire/codec.ts"
import type { StoredDeployment } from "../../src/wire/deployment.ts"
import { InferAnswer, InferRequest } from "../../src/wire/infer.ts"
import { PassAnswer, PassCommand } from "../../src/wire/pass.ts"
import { subjectsOf, TOKEN_STREAM, TOKEN_STREAM_SUBJECTS } from "../../src/wire/subjects.ts"
import { type RankActor, type Surroundings, startHost, startSupervisor } from "./actors.ts"
import { breakBus, breakStorage } from "./breakages.ts"
import { busOf, Switchboard } from "./bus.ts"
import { deploymentsOf } from "./deployments.ts"
import { DRAINS, Ledger } from "./ledger.ts"
import type { Mutation } from "./mutation.ts"
import { Network } from "./network.ts"
import { type Reader, startReader } from "./reader.ts"
import { OF_SUPERVISORS, type Scenario, type SessionPlan, type Trouble } from "./scenario.ts"
import { StorageServer, storageOf } from "./storage.ts"
import { Process, type World } from "./world.ts"

const requests = codec("infer request", InferRequest)
const inferAnswers = codec("infer answer", InferAnswer)
const commands = codec("pass command", PassCommand)
const answers = codec("pass answer", PassAnswer)

/** Without a supervisor. */
const ASK_AGAIN_MILLIS = 200
const ASK_MILLIS = 10_000

export interface Client {
  readonly plan: SessionPlan
  readonly deployment: StoredDeployment
  session: string | null // null: it was not accepted, as far as is known
  refused: string | null
  readonly readers: Array<Reader>
}

interface HostActor {
  readonly name: string
  readonly process: Process
  readonly ranks: Set<RankActor>
}

interface SupervisorActor {
  readonly process: Process
  readonly fiber: Fiber.Fiber<unknown, unknown>
}

export class Cluster {
  readonly #world: World
  readonly #scenario: Scenario
  readonly #mutation: Mutation | null
  readonly network: Network
  readonly storage: StorageServer
  readonly ledger: Ledger
  readonly #switchboard: Switchboard
  readonly #hosts = new Map<string, HostActor>()
  readonly #supervisors = new Map<string, SupervisorActor>()
  readonly deployments: ReadonlyArray<StoredDeployment>
  readonly clients: Array<Client> = []
  readonly violations: Array<string> = []
  troubles = 0 // that have happened
  moves = 0 // of sessions whose KV has come with them
  filled = 0 // prompts, by ranks of their own
  vain = 0 // KV that has not come
  #losses = 0 // troubles in which a message or what a rank holds may be lost
  #pids = 0
  #calm = false

  constructor(world: World, scenario: Scenario, mutation: Mutation | null) {
    this.#world = world
    this.#scenario = scenario
    this.#mutation = mutation
    this.network = new Network(world, scenario.faults)
    this.#switchboard = new Switchboard(this.network)
    this.storage = new StorageServer(world, this.network, {
      ...{ duplicatesFirst: scenario.duplicatesFirst, copies: scenario.copies },
      anySequence: (stream) => breakStorage.anySequence(mutation, stream),
    })
    this.deployments = deploymentsOf(scenario)
    this.ledger = new Ledger(this.storage)
    this.storage.make({ _tag: "Log", stream: TOKEN_STREAM, subjects: TOKEN_STREAM_SUBJECTS, retentionMillis: null })
    for (const one of this.deployments) this.ledger.deploy(one)
    for (let i = 0; i < scenario.hosts; i++) this.#startHost(`host-${i}`)
    for (let i = 0; i < scenario.supervisors; i++) this.#startSupervisor(`supervisor ${i}`)
    for (const plan of scenario.sessions) world.after(plan.askedAt, null, () => this.#ask(plan))
    for (const drain of scenario.drains) world.after(drain.at, null, () => this.#drainHost(drain.millis))
    this.#trouble()
    world.after(scenario.calmAt, null, () => this.#becomeCalm())
  }

  get ranks(): ReadonlyArray<RankActor> {
    return [...this.#hosts.values()].flatMap(({ ranks }) => [...ranks]).filter(({ process }) => process.alive)
  }

  #surroundings(name: string, kind: "rank" | "other"): Surroundings {
    const { drift } = this.#scenario
    const process = new Process(this.#world, name, ++this.#pids, 1 + this.#world.random.between(-drift, drift))
    process.ended = () => this.#switchboard.forget(process)
    this.network.connect(process)
    const bus = busOf({
      ...{ process, network: this.network, switchboard: this.#switchboard, echo: kind !== "rank" },
      answered: (question, answer) => this.#check(question, answer),
    })
    const broken = breakStorage.of(this.#mutation)
    const storage = storageOf({
      ...{ process, network: this.network, server: this.storage, diskMillis: this.#diskMillis },
      ...broken,
    })
    return { process, bus: breakBus(this.#mutation, bus, kind, this.ledger), storage: broken.wrap(storage) }
  }

  #computeMillis = (): number => this.#world.random.exponential(this.#scenario.computeMillis)

  #diskMillis = (): number => {
    const { random } = this.#world
    const { diskMillis, slowDisk } = this.#scenario
    return random.exponential(!this.#calm && random.chance(slowDisk) ? 1500 : diskMillis)
  }

  #startHost(name: string): void {
    const here = this.#surroundings(name, "other")
    const ranks = new Set<RankActor>()
    const host = { name, process: here.process, ranks }
    this.#hosts.set(name, host)
    const fiber = startHost({
      ...here,
      ...{ name, computeMillis: this.#computeMillis, mutation: this.#mutation },
      spawn: (called) => this.#surroundings(called, "rank"),
      started: (rank) => {
        for (const one of ranks) if (!one.process.alive) ranks.delete(one)
        ranks.add(rank)
      },
    })
    // It ends by itself where its storage is silent as it starts.
    fiber.addObserver(() => (here.process.alive ? this.#killHost(host) : undefined))
  }

  #startSupervisor(name: string): void {
    const here = this.#surroundings(name, "other")
    const supervisor = { process: here.process, fiber: startSupervisor(here) }
    this.#supervisors.set(name, supervisor)
    supervisor.fiber.addObserver(() => (here.process.alive ? this.#killSupervisor(supervisor) : undefined))
  }

  /** No pass is answered with another one's answer; and where nothing goes wrong no rank lacks what it should have. */
  #check({ subject, data }: Message, { data: answered }: Message): void {
    if (!subject.endsWith(".pass")) return
    const [asked, told] = [commands.decode(data), answers.decode(answered)]
    if (Result.isFailure(asked) || Result.isFailure(told)) return
    const [command, answer] = [asked.success, told.success]
    if (answer.pass !== command.pass) {
      this.violations.push(`pass ${command.pass} is answered with ${answer._tag} of pass ${answer.pass}`)
    }
    if (command._tag === "Prefill" && command.source !== undefined && command.source.group !== "draft") {
      if (answer._tag !== "Prefilled") this.vain++
      else if (command.source.group === "base") this.moves++
      else this.filled++
    }
  }

  // -- clients -------------------------------------------------------------------------------------------------------

  #ask(plan: SessionPlan): void {
    const deployment = this.deployments[plan.deployment % this.deployments.length]
    if (deployment === undefined) throw new Error("a cluster has deployments")
    const { process, bus } = this.#surroundings(`client of ${plan.request.session}`, "other")
    const client: Client = { plan, deployment, session: null, refused: null, readers: [] }
    this.clients.push(client)
    const { infer, cancel } = subjectsOf(deployment.name)
    const again = (): void => process.after(ASK_AGAIN_MILLIS, ask)
    const ask = (): void => {
      const message = Result.getOrThrow(requests.tryEncode(requestOf(plan, deployment)))
      process.fork(bus.request(infer, message, { withinMillis: ASK_MILLIS }), (exit) => {
        const told = exit._tag === "Success" ? inferAnswers.decode(exit.value.data) : null
        if (told === null || Result.isFailure(told)) return again()
        if (told.success._tag === "Accepted") return this.#accepted(client, told.success.session)
        const error = told.success._tag === "Refused" ? told.success.error : null
        if (error !== null && LASTING.has(error._tag)) client.refused = error.message
        else again()
      })
    }
    ask()
    if (plan.cancelledAt === null) return
    process.after(Math.max(0, plan.cancelledAt - this.#world.now), () => {
      if (client.session !== null) bus.publish(cancel(client.session))
    })
  }

  #accepted(client: Client, session: string): void {
    this.#world.note(() => `${client.plan.request.session} is accepted as ${session}`)
    client.session = session
    for (let i = 0; i < client.plan.readers; i++) {
      const { process } = this.#surroundings(`reader of ${session}`, "other")
      const subject = subjectsOf(client.deployment.name).tokens(session)
      client.readers.push(
        startReader({
          process,
          network: this.network,
          ledger: this.ledger,
          subject,
          session,
          mutation: this.#mutation,
        }),
      )
    }
  }

  /** They are asked nothing any more. */
  leaveRanksAlone(): void {
    for (const { process } of this.#supervisors.values()) process.kill()
    this.#supervisors.clear()
  }

  // -- troubles ------------------------------------------------------------------------------------------------------

  #trouble(): void {
    const { troubles, troubleMillis } = this.#scenario
    const [first, ...more] = troubles
    if (first === undefined) return
    this.#world.after(this.#world.random.exponential(troubleMillis), null, () => {
      if (this.#calm) return
      const trouble = this.#world.random.pick([first, ...more])
      this.troubles++
      if (!OF_SUPERVISORS.has(trouble)) this.#losses++
      this.#happen(trouble)
      this.#trouble()
    })
  }

  #happen(trouble: Trouble): void {
    const { random } = this.#world
    const rank = this.#any(this.ranks)
    const supervisor = this.#any([...this.#supervisors.values()])
    const host = this.#any([...this.#hosts.values()])
    switch (trouble) {
      case "kill a rank":
        return rank?.kill()
      case "stop a rank":
        return rank && this.#stop(rank.process, random.exponential(700))
      case "cut a rank off":
        return rank && this.network.cut(rank.process, random.exponential(400))
      case "kill a supervisor":
        return supervisor && this.#killSupervisor(supervisor)
      case "drain a supervisor":
        return supervisor && this.#drainSupervisor(supervisor)
      case "stop a supervisor":
        return supervisor && this.#stop(supervisor.process, random.exponential(2000))
      case "cut a supervisor off":
        return supervisor && this.network.cut(supervisor.process, random.exponential(1500))
      case "kill a host":
        return host && this.#killHost(host)
      case "stop a host":
        return host && this.#stop(host.process, random.exponential(2000))
      case "cut a host off":
        return host && this.network.cut(host.process, random.exponential(2000))
      case "drain a host":
        return this.#drainHost(random.exponential(2000))
      case "partition":
        for (const { process } of [...this.ranks, ...this.#supervisors.values(), ...this.#hosts.values()]) {
          if (random.chance(0.4)) this.network.cut(process, random.exponential(1500))
        }
        return
      case "restart the server":
        this.network.restart(random.exponential(800))
        if (this.#scenario.lostTail > 0) this.ledger.loseTail(random.integer(0, this.#scenario.lostTail))
    }
  }

  #any<A extends { readonly process: Process }>(all: ReadonlyArray<A>): A | undefined {
    const [first, ...more] = all.filter(({ process }) => process.alive)
    return first === undefined ? undefined : this.#world.random.pick([first, ...more])
  }

  #again(name: string, longest: number, start: (name: string) => void): void {
    this.#world.after(this.#world.random.between(100, longest), null, () => start(name))
  }

  #killSupervisor({ process }: SupervisorActor): void {
    process.kill()
    this.#again(process.name, 6000, (name) => this.#startSupervisor(name))
  }

  /** Its ranks end with it. */
  #killHost({ name, process, ranks }: HostActor): void {
    process.kill()
    for (const rank of ranks) rank.process.kill()
    this.#again(name, 6000, (name) => this.#startHost(name))
  }

  /** The process ends when its sessions are handed over. */
  #drainSupervisor({ process, fiber }: SupervisorActor): void {
    this.#world.note(() => `${process.name} is drained`)
    process.after(0, () => fiber.interruptUnsafe())
  }

  /** Its ranks go elsewhere when their time is over, if there is a place. */
  #drainHost(limitMillis: number): void {
    const host = this.#any([...this.#hosts.values()])
    if (host === undefined) return
    this.#world.note(() => `${host.name} drains`)
    this.ledger.write(DRAINS, host.name, { limitMillis: Math.round(limitMillis) })
    this.#world.after(limitMillis + this.#world.random.between(500, 4000), null, () =>
      this.ledger.remove(DRAINS, host.name),
    )
  }

  #stop(process: Process, millis: number): void {
    process.stop()
    this.#world.after(millis, null, () => process.resume())
  }

  /** Nothing has ever gone wrong. */
  get well(): boolean {
    return this.troubles === 0 && this.lossless
  }

  /** Nothing that was said was lost. */
  get lossless(): boolean {
    const { loss, double, late } = this.#scenario.faults
    return this.#losses + loss + double + late === 0 && this.#scenario.drains.length === 0
  }

  #becomeCalm(): void {
    this.#world.note(() => "from now on all goes well")
    this.#calm = true
    this.network.faults = { ...this.#scenario.faults, loss: 0, double: 0, late: 0 }
  }
}

/** Refusals that asking again does not change. */
const LASTING: ReadonlySet<string> = new Set(["InvalidRequest", "MalformedMessage", "ContextExceeded"])

/** What a client says of a session, whose name the supervisor gives. */
const requestOf = ({ request }: SessionPlan, { draft }: StoredDeployment): InferRequest => {
  const { prompt, maxTokens, minTokens, ignoreEos, sampling, fuzzy, deadlineMillis, promptLogprobs } = request
  const { penalties, bias, seed } = sampling
  const speculation = typeof request.speculation === "object" && draft === null ? "adaptive" : request.speculation
  return {
    ...{ tokens: prompt, maxTokens, minTokens, ignoreEos, fuzzy, speculation, seed, logprobs: 0, stream: true },
    ...(penalties === undefined ? {} : { presencePenalty: penalties.presence, frequencyPenalty: penalties.frequency }),
    ...(bias === undefined ? {} : { logitBias: Object.fromEntries(bias.map(([token, value]) => [`${token}`, value])) }),
    ...(deadlineMillis === null ? {} : { deadlineMillis }),
    ...(promptLogprobs === null ? {} : { promptLogprobs }),
  }
}
