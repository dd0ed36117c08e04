// The machine that figures were made on, and whether it has time for them.
import { execFileSync } from "node:child_process"
import { cpus, totalmem } from "node:os"
import { setTimeout as sleep } from "node:timers/promises"
import { native } from "../native/index.ts"
import { loadBackends } from "./engine.ts"

export interface MachineFacts {
  readonly cpu: string
  readonly cores: number
  readonly memoryGiB: number
  readonly devices: string // ggml's, with the variant of the CPU backend that it chose
  readonly node: string
  readonly commit: string
}

export const machineFacts = (): MachineFacts => {
  loadBackends()
  return {
    cpu: cpus()[0]?.model ?? "an unknown CPU",
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    devices: native
      .devices()
      .map(({ name, variant, description, kind }) => (kind === "cpu" ? `${name} ${variant}` : `${name} ${description}`))
      .join(", "),
    node: process.version,
    commit: commit(),
  }
}

export const showMachine = ({ cpu, cores, memoryGiB, devices, node, commit }: MachineFacts): string =>
  `${cpu}, ${cores} cores, ${memoryGiB} GiB; ggml: ${devices}; Node ${node.slice(1)}; commit ${commit}`

const commit = (): string => {
  try {
    return execFileSync("git", ["describe", "--always", "--dirty"], {
      cwd: import.meta.dirname,
      encoding: "utf8",
    }).trim()
  } catch {
    return "unknown"
  }
}

/** Threads that compute: one a core. */
export const THREADS = cpus().length

const LOOK_MILLIS = 250
const PATIENCE_MILLIS = 10_000
const BUSY = 0.15 // of the machine, by others

let patience = 60_000 // in all

/** Waits until others leave the machine alone, and says whether they did. Called while nothing of ours computes. */
export const quiet = async (): Promise<boolean> => {
  const most = Math.max(LOOK_MILLIS, Math.min(PATIENCE_MILLIS, patience))
  for (let waited = 0; waited < most; waited += LOOK_MILLIS) {
    patience -= LOOK_MILLIS
    const before = busyAndAll()
    await sleep(LOOK_MILLIS)
    const after = busyAndAll()
    if ((after.busy - before.busy) / (after.all - before.all) < BUSY) return true
  }
  return false
}

const busyAndAll = () => {
  const times = cpus().map(({ times }) => times)
  const all = times.reduce((sum, { user, nice, sys, idle, irq }) => sum + user + nice + sys + idle + irq, 0)
  return { all, busy: all - times.reduce((sum, { idle }) => sum + idle, 0) }
}
