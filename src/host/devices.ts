// The devices of this machine. The native module is loaded when they are asked for, not when this file is imported.
import { Effect } from "effect"
import type { HostDevice } from "../wire/host.ts"

/** Gives a function that looks anew each time, since others use the devices too. */
export const loadDevices: Effect.Effect<() => ReadonlyArray<HostDevice>> = Effect.promise(async () => {
  const { BACKENDS, native } = await import("../../native/index.ts")
  native.loadBackends(BACKENDS)
  return () =>
    native.devices().map(({ name, kind, description, memoryFree, memoryTotal }) => ({
      ...{ name, kind, description, memoryFree, memoryTotal },
    }))
})
