// The workflow engine on a real nats-server, with processes that are killed, stopped and told to go: another one goes on,
// and what was done is not done again.
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { Kvm } from "@nats-io/kv"
import { connect } from "@nats-io/transport-node"
import { Effect, Exit, Layer, Option, Schema, Scope } from "effect"
import { DurableDeferred, Workflow, type WorkflowEngine } from "effect/workflow"
import { afterEach, beforeEach, expect, test } from "vitest"
import { layer } from "../../src/durable/engine.ts"
import { Presence } from "../../src/durable/presence.ts"
import { onNats } from "../../src/store/jetStream.ts"
import { engine, Go, Steps } from "./durableWorker.ts"
import { Server } from "./rankGroup.ts"

class Worker {
  readonly #process: ChildProcess
  readonly lines: Array<string> = []
  #heard = (): void => {}

  constructor(...args: ReadonlyArray<string>) {
    const file = new URL("./durableWorker.ts", import.meta.url).pathname
    this.#process = spawn(process.execPath, [file, server.url, ...args], { stdio: ["ignore", "pipe", "inherit"] })
    if (this.#process.stdout === null) throw new Error("no stdout")
    createInterface(this.#process.stdout).on("line", (line) => {
      this.lines.push(line)
      this.#heard()
    })
    workers.push(this)
  }

  async says(line: string): Promise<void> {
    while (!this.lines.includes(line)) await new Promise<void>((resolve) => (this.#heard = resolve))
  }

  signal(name: NodeJS.Signals): void {
    this.#process.kill(name)
  }

  async ends(name: NodeJS.Signals): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const ended = once(this.#process, "exit")
    this.signal(name)
    await ended
  }
}

let server: Server
const workers: Array<Worker> = []
beforeEach(async () => {
  server = await Server.start()
})
afterEach(async () => {
  for (const worker of workers.splice(0)) await worker.ends("SIGKILL")
  await server[Symbol.asyncDispose]()
})

/** From a process that runs no workflow itself. */
const run = <A, E>(use: Effect.Effect<A, E, WorkflowEngine.WorkflowEngine>) =>
  Effect.runPromise(Effect.provide(use, engine(server.url)))

const steps = (id: string) => ({ id, at: new Date(7) })

const go = (id: string, value = 42, payload = steps(id)) =>
  Effect.gen(function* () {
    const executionId = yield* Steps.executionId(payload)
    const token = DurableDeferred.tokenFromExecutionId(Go, { workflow: Steps, executionId })
    yield* DurableDeferred.succeed(Go, { token, value })
  })

/** The result, when there is one. */
const result = (id: string) =>
  Effect.gen(function* () {
    const executionId = yield* Steps.executionId(steps(id))
    for (;;) {
      const result = yield* Steps.poll(executionId)
      if (Option.isSome(result) && result.value._tag === "Complete") return result.value.exit
      yield* Effect.sleep(20)
    }
  })

const keys = async (): Promise<ReadonlyArray<string>> => {
  const connection = await connect({ servers: server.url })
  const kv = await new Kvm(connection).open("chorus_executions")
  const found: Array<string> = []
  for await (const key of await kv.keys()) found.push(key)
  await connection.close()
  return found
}

test("an execution goes on in another process when its owner is killed, and does nothing twice", async () => {
  const first = new Worker("Steps", "a")
  await first.says("does first")
  const second = new Worker()
  await second.says("ready")
  await first.ends("SIGKILL")
  await run(go("a"))
  await second.says("does second")
  const exit = await run(result("a"))
  expect(exit).toMatchObject({ _tag: "Success", value: { went: 42, at: new Date(7) } })
  expect(second.lines).not.toContain("does first")
  expect(first.lines).not.toContain("does second")
  expect(await keys()).toEqual([])
})

test("an owner that was stopped past its lease finds another in its place, and leaves", async () => {
  const first = new Worker("Steps", "b")
  await first.says("does first")
  const second = new Worker()
  await second.says("ready")
  first.signal("SIGSTOP")
  const third = new Worker("Parent", "x") // whose record the first one hears when it is awake again
  await third.says("does before")
  await run(
    Effect.gen(function* () {
      const taken = async () => {
        const connection = await connect({ servers: server.url })
        const kv = await new Kvm(connection).open("chorus_executions")
        const entry = await kv.get(`test.execution.${await Effect.runPromise(Steps.executionId(steps("b")))}`)
        await connection.close()
        return entry?.json<{ epoch: number }>().epoch === 2
      }
      while (!(yield* Effect.promise(taken))) yield* Effect.sleep(50)
    }),
  )
  first.signal("SIGCONT")
  await run(go("b"))
  await Promise.race([second.says("does second"), third.says("does second")])
  expect(Exit.isSuccess(await run(result("b")))).toBe(true)
  expect([...second.lines, ...third.lines].filter((line) => line === "does second")).toHaveLength(1)
  expect(first.lines).not.toContain("does second")
})

test("an owner that is told to go hands over at once", async () => {
  const first = new Worker("Steps", "c")
  await first.says("does first")
  const second = new Worker()
  await second.says("ready")
  await first.ends("SIGTERM")
  expect(first.lines).not.toContain("undoes first")
  await run(go("c"))
  await second.says("does second")
})

test("clocks and children survive their owner", async () => {
  const first = new Worker("Parent", "d")
  await first.says("does before")
  const second = new Worker()
  await second.says("ready")
  await first.ends("SIGKILL")
  // On a busy machine the time is over before the second one is ready, and the child was begun by the first.
  await Promise.race([first.says("does first"), second.says("does first")])
  const child = "child of d"
  await run(go(child, 7, { id: child, at: new Date(0) }))
  await second.says("does after")
  expect(second.lines).not.toContain("does before")
})

test("an execution that is asked for again is the same one", async () => {
  const first = new Worker("Steps", "e")
  await first.says("does first")
  await run(go("e", 1))
  await first.says("does second")
  const before = await run(result("e"))
  const second = new Worker("Steps", "e")
  await second.says("ready")
  expect(await run(result("e"))).toEqual(before)
  expect(second.lines).toEqual(["ready"])
})

test("an interruption from another process undoes what was done", async () => {
  const first = new Worker("Steps", "f")
  await first.says("does first")
  await run(Effect.flatMap(Steps.executionId(steps("f")), (id) => Steps.interrupt(id)))
  await first.says("undoes first")
  const exit = await run(result("f"))
  expect(Exit.isFailure(exit) && Exit.hasInterrupts(exit)).toBe(true)
})

/** Waits for Go, and says which process has run it. */
const Waiting = Workflow.make("Waiting", {
  payload: { id: Schema.String },
  success: Schema.Int,
  idempotencyKey: ({ id }) => id,
})

test("of two engines in one process the second leaves the first one's executions alone, and has them when it closes", async () => {
  const ran: Array<string> = []
  const openAs = (name: string) =>
    Waiting.toLayer(({ id }) =>
      Effect.andThen(
        Effect.sync(() => ran.push(`${id} on the ${name}`)),
        DurableDeferred.await(Go),
      ),
    ).pipe(Layer.provideMerge(layer({ namespace: "test" })), Layer.build)
  const completes = Effect.fnUntraced(function* (id: string) {
    const executionId = yield* Waiting.executionId({ id })
    const token = DurableDeferred.tokenFromExecutionId(Go, { workflow: Waiting, executionId })
    yield* DurableDeferred.succeed(Go, { token, value: 3 })
    return yield* Waiting.execute({ id })
  })
  const both = Effect.gen(function* () {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const first = yield* Scope.provide(openAs("first"), scope)
    yield* Effect.provide(Waiting.execute({ id: "g" }, { discard: true }), first)
    const second = yield* openAs("second")
    expect(yield* Effect.provide(completes("h"), second)).toBe(3)
    expect(new Set(ran)).toEqual(new Set(["g on the first", "h on the second"]))
    yield* Scope.close(scope, Exit.void)
    expect(yield* Effect.provide(completes("g"), second)).toBe(3)
    expect(ran).toContain("g on the second")
  })
  const fabric = onNats({ url: server.url, name: "durable" })
  await Effect.runPromise(Effect.provide(Effect.scoped(both), Layer.provideMerge(Presence.layer, fabric)))
})
