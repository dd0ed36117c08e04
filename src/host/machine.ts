// What a host has of its machine: devices, memory, the files of models, and processes.
import { availableParallelism, totalmem } from "node:os"
import { Context, type Effect, type Scope } from "effect"
import type { HostDevice, LookedAt } from "../wire/host.ts"
import { loadDevices } from "./devices.ts"
import { lookAt } from "./modelFiles.ts"
import { type Actor, startActor } from "./process.ts"
import type { Child } from "./supervision.ts"

export interface MachineParts {
  /** Gives a function that looks anew each time. */
  readonly devices: Effect.Effect<() => ReadonlyArray<HostDevice>>
  readonly memory: () => { readonly total: number; readonly available: number } // bytes
  readonly cores: () => number
  readonly lookAt: (path: string) => Effect.Effect<LookedAt>
  /** Starts an actor, which ends with the scope. */
  readonly start: (actor: Actor) => Effect.Effect<Child, never, Scope.Scope>
}

export const MachineParts = Context.Reference<MachineParts>("chorus/host/MachineParts", {
  defaultValue: () => ({
    ...{ devices: loadDevices, lookAt, start: startActor, cores: availableParallelism },
    memory: () => ({ total: totalmem(), available: process.availableMemory() }),
  }),
})
