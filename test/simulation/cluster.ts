// The simulated cluster: ranks under hosts that start them again, supervisors, clients, and what may happen to them.
import { Tokenizer } from "../../src/model/tokenizer/tokenizer.ts"
import { ownersOf } from "../../src/rank/strategy/strategies.ts"
import type { PassAnswer, PassCommand } from "../../src/wire/pass.ts"
import { Draining } from "./draining.ts"
import { END, VOCABULARY } from "./engine.ts"
import { LogServer } from "./log.ts"
import type { Mutation } from "./mutation.ts"
import { Network } from "./network.ts"
import { type GroupShape, type RankActor, startRank } from "./rank.ts"
import { type Reader, startReader } from "./reader.ts"
import { RecordServer } from "./records.ts"
import { groupsOf } from "./replica.ts"
import { type Drain, OF_SUPERVISORS, type Scenario, type SessionPlan, type Trouble } from "./scenario.ts"
import { type Supervisor, startSupervisor } from "./supervisor.ts"
import { Process, type World } from "./world.ts"

const TOKENIZER = new Tokenizer({
  file: "simulated",
  tokens: Array.from({ length: VOCABULARY }, (_, id) => String.fromCharCode(97 + id)),
  special: new Map([[END, "control"]]),
  ...{ bos: null, prefix: [], suffix: [], eos: END, ends: new Set([END]) },
  definition: () => {
    throw new Error("nothing is encoded here")
  },
})

/** Without a supervisor. */
const ASK_AGAIN_MILLIS = 200

export interface Client {
  readonly plan: SessionPlan
  readonly askedAt: number
  readonly supervisor: Process // that was asked
  accepted: boolean
  readonly readers: Array<Reader>
}

export class Cluster {
  readonly #world: World
  readonly #scenario: Scenario
  readonly #mutation: Mutation | null
  readonly network: Network
  readonly log: LogServer
  readonly records: RecordServer
  readonly #draining: Draining
  readonly #ranks = new Map<GroupShape, Map<number, RankActor>>()
  readonly #supervisors = new Map<string, Supervisor>()
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
    this.log = new LogServer(world, { duplicatesFirst: scenario.duplicatesFirst, copies: scenario.copies, mutation })
    this.records = new RecordServer(world, this.network, { copies: scenario.copies, mutation })
    this.#draining = new Draining(this.network)
    for (const shape of this.#shapes()) {
      for (let rank = 0; rank < shape.ranks; rank++) this.#startRank(shape, rank)
    }
    for (let i = 0; i < scenario.supervisors; i++) this.#startSupervisor(`supervisor ${i}`)
    for (const plan of scenario.sessions) world.after(plan.askedAt, null, () => this.#ask(plan))
    for (const drain of scenario.drains) world.after(drain.at, null, () => this.#drainReplica(drain))
    this.#trouble()
    world.after(scenario.calmAt, null, () => this.#becomeCalm())
  }

  get ranks(): ReadonlyArray<RankActor> {
    return [...this.#ranks.values()].flatMap((group) => [...group.values()])
  }

  #shapes(): ReadonlyArray<GroupShape> {
    return this.#scenario.replicas.flatMap(groupsOf)
  }

  #process(name: string): Process {
    const { drift } = this.#scenario
    const process = new Process(this.#world, name, ++this.#pids, 1 + this.#world.random.between(-drift, drift))
    this.network.connect(process)
    return process
  }

  #computeMillis = (): number => this.#world.random.exponential(this.#scenario.computeMillis)

  #diskMillis = (): number => {
    const { random } = this.#world
    const { diskMillis, slowDisk } = this.#scenario
    return random.exponential(!this.#calm && random.chance(slowDisk) ? 1500 : diskMillis)
  }

  #startRank(shape: GroupShape, rank: number): void {
    const group = this.#ranks.get(shape) ?? new Map<number, RankActor>()
    this.#ranks.set(shape, group)
    const process = this.#process(`${shape.group} ${shape.replica}/${rank}`)
    const actor = startRank({
      ...{ shape, rank, process, network: this.network, mutation: this.#mutation },
      computeMillis: this.#computeMillis,
      peers: () => [...group.values()],
      others: (replica, group) => this.ranks.filter(({ shape }) => shape.replica === replica && shape.group === group),
      beat: (actor) => {
        const connections = this.network.connections(process)
        for (const supervisor of this.#supervisors.values()) {
          this.network.send(process, supervisor.process, () => supervisor.beat(actor, connections))
        }
      },
    })
    group.set(rank, actor)
  }

  #startSupervisor(name: string): void {
    const process = this.#process(name)
    const supervisor = startSupervisor({
      ...{ process, network: this.network, log: this.log, records: this.records, tokenizer: TOKENIZER },
      ...{ replicas: this.#scenario.replicas, mutation: this.#mutation },
      ...{ limits: this.#scenario.limits, keepMillis: this.#scenario.keepMillis },
      ...{ kvTokens: this.#scenario.kvTokens, draining: this.#draining },
      ranks: (shape) => [...(this.#ranks.get(shape)?.values() ?? [])],
      others: () => [...this.#supervisors.values()],
      diskMillis: this.#diskMillis,
      answered: (command, answer) => this.#check(command, answer),
    })
    this.#supervisors.set(name, supervisor)
  }

  #check(command: PassCommand, answer: PassAnswer): void {
    if (command._tag === "Prefill" && command.source !== undefined && command.source.group !== "draft") {
      if (answer._tag !== "Prefilled") this.vain++
      else if (command.source.group === "base") this.moves++
      else this.filled++
    }
    if (
      this.well &&
      answer._tag === "Refused" &&
      answer.error._tag === "UnknownSession" &&
      this.#attends(answer.error)
    ) {
      this.violations.push(`nothing is lost, and yet ${answer.error.message}`)
    }
    if (answer.pass !== command.pass) {
      this.violations.push(`pass ${command.pass} is answered with ${answer._tag} of pass ${answer.pass}`)
    }
  }

  // -- clients -------------------------------------------------------------------------------------------------------

  #ask(plan: SessionPlan): void {
    const able = [...this.#supervisors.values()].filter(({ process }) => process.alive && this.network.isUp(process))
    const supervisor = able[this.#world.random.integer(0, able.length - 1)]
    if (supervisor === undefined) return this.#world.after(ASK_AGAIN_MILLIS, null, () => this.#ask(plan))
    const process = this.#process(`client of ${plan.request.session}`)
    const askedAt = this.#world.now
    const client: Client = { plan, askedAt, supervisor: supervisor.process, accepted: false, readers: [] }
    this.clients.push(client)
    const accepted = (): void => {
      if (client.accepted) return
      this.#world.note(() => `${plan.request.session} is accepted by ${supervisor.process.name}`)
      client.accepted = true
      for (let i = 0; i < plan.readers; i++) client.readers.push(this.#read(plan))
    }
    let asked = false // a request that comes twice makes two sessions, and here they have one name
    this.network.send(process, supervisor.process, () => {
      if (asked) return
      asked = true
      supervisor.accept(plan.request, () => this.network.send(supervisor.process, process, accepted))
    })
    if (plan.cancelledAt === null) return
    process.after(Math.max(0, plan.cancelledAt - this.#world.now), () => {
      this.#world.note(() => `${plan.request.session} is cancelled`)
      for (const { process: other, cancel } of this.#supervisors.values()) {
        this.network.send(process, other, () => cancel(plan.request.session))
      }
    })
  }

  #read({ request: { session } }: SessionPlan): Reader {
    const process = this.#process(`reader of ${session}`)
    return startReader({ process, network: this.network, log: this.log, session, mutation: this.#mutation })
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
    switch (trouble) {
      case "kill a rank":
        return this.#killRank(this.#anyRank())
      case "stop a rank":
        return this.#stop(this.#anyRank().process, random.exponential(700))
      case "cut a rank off":
        return this.network.cut(this.#anyRank().process, random.exponential(400))
      case "kill a supervisor":
        return this.#killSupervisor(this.#anySupervisor())
      case "drain a supervisor":
        return this.#drain(this.#anySupervisor())
      case "stop a supervisor":
        return this.#stop(this.#anySupervisor().process, random.exponential(2000))
      case "cut a supervisor off":
        return this.network.cut(this.#anySupervisor().process, random.exponential(1500))
      case "partition":
        for (const { process } of [...this.ranks, ...this.#supervisors.values()]) {
          if (random.chance(0.4)) this.network.cut(process, random.exponential(1500))
        }
        return
      case "restart the server":
        this.network.restart(random.exponential(800))
        if (this.#scenario.lostTail > 0) this.log.loseTail(random.integer(0, this.#scenario.lostTail))
    }
  }

  #anyRank(): RankActor {
    const [first, ...more] = this.ranks
    if (first === undefined) throw new Error("a cluster has ranks")
    return this.#world.random.pick([first, ...more])
  }

  #anySupervisor(): Supervisor {
    const [first, ...more] = this.#supervisors.values()
    if (first === undefined) throw new Error("a cluster has supervisors")
    return this.#world.random.pick([first, ...more])
  }

  /** Its host starts it again. */
  #killRank({ process, shape, rank }: RankActor): void {
    if (!process.alive) return
    process.kill()
    this.#world.after(this.#world.random.between(100, 2500), null, () => this.#startRank(shape, rank))
  }

  #killSupervisor({ process }: Supervisor): void {
    if (!process.alive) return
    process.kill()
    this.#world.after(this.#world.random.between(100, 6000), null, () => this.#startSupervisor(process.name))
  }

  /** The process ends when its sessions are handed over. */
  #drain({ process, drain }: Supervisor): void {
    if (!process.alive) return
    this.#world.note(() => `${process.name} is drained`)
    process.after(0, () =>
      drain(() => {
        if (!process.alive) return
        process.kill()
        this.#world.after(this.#world.random.between(100, 3000), null, () => this.#startSupervisor(process.name))
      }),
    )
  }

  #busiest(): number {
    const sessions = (epoch: number): number =>
      [...this.#supervisors.values()].reduce((sum, { sessionsOn }) => sum + sessionsOn(epoch), 0)
    const epochs = this.#scenario.replicas.map(({ epoch }) => epoch)
    return epochs.reduce((busiest, epoch) => (sessions(epoch) > sessions(busiest) ? epoch : busiest))
  }

  /** Its ranks end when its time is over, or it is taken back. */
  #drainReplica({ replica: wanted, millis, ends }: Drain): void {
    const replica = wanted === "busy" ? this.#busiest() : wanted
    this.#world.note(() => `replica ${replica} drains`)
    this.#draining.begin(replica)
    this.#world.after(millis, null, () => {
      this.#world.note(() => `replica ${replica} drains no more`)
      if (ends) {
        this.troubles++
        this.#losses++
        for (const rank of this.ranks) if (rank.shape.replica === replica) this.#killRank(rank)
      }
      this.#draining.end(replica)
    })
  }

  #stop(process: Process, millis: number): void {
    process.stop()
    this.#world.after(millis, null, () => process.resume())
  }

  /** A rank of a small model may have no layer's KV; when its peers have answered for it, it need not have come so far. */
  #attends({ group, rank }: { readonly group: string; readonly rank: number }): boolean {
    const shape = this.#shapes().find((shape) => shape.group === group)
    return shape !== undefined && ownersOf(shape, shape.model.layers, shape.fuzzy).includes(rank)
  }

  /** Nothing has ever gone wrong. */
  get well(): boolean {
    return this.troubles === 0 && this.lossless
  }

  /** Nothing that was said was lost. */
  get lossless(): boolean {
    const { loss, double, late } = this.#scenario.faults
    return this.#losses + loss + double + late === 0
  }

  #becomeCalm(): void {
    this.#world.note(() => "from now on all goes well")
    this.#calm = true
    this.network.faults = { ...this.#scenario.faults, loss: 0, double: 0, late: 0 }
  }
}
