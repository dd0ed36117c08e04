// Strikes an installation with one fault of the plan, by real means, and takes it away again when its time is over.
import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"
import type { Installation } from "./installation.ts"
import type { Fault } from "./plan.ts"
import { CLEAR, type Condition } from "./proxy.ts"

/** A fault that has struck. */
export interface Struck {
  readonly fault: Fault
  readonly whom: string // "rank base 0 of epoch 2 on host-1"
  readonly at: number // by performance's clock
  /** Ends when nothing of it stands any more but what it has left. */
  readonly over: Promise<void>
}

/** Null while there is no process of that role. */
export const strike = (installation: Installation, fault: Fault): Struck | null => {
  const target = targetOf(installation, fault)
  if (target === null) return null
  const at = performance.now()
  const undo = ACTS[fault.action](target)
  const over = undo === undefined ? Promise.resolve() : after(fault.lastsMillis, undo)
  return { fault, whom: target.name, at, over }
}

const after = (millis: number, undo: () => void): Promise<void> =>
  new Promise((resolve) =>
    setTimeout(() => {
      undo()
      resolve()
    }, millis),
  )

interface Target {
  readonly name: string
  readonly pid: number
  readonly expectEnd: () => void
  readonly setLink: (condition: Condition) => void
  readonly cutLink: () => void
  readonly fillDisk: () => void
  readonly freeDisk: () => void
}

const nothing = (): void => {}

const targetOf = (installation: Installation, { role, which }: Fault): Target | null => {
  const { servers, actors, sites, watch } = installation
  const none = { pid: 0, expectEnd: nothing, setLink: nothing, cutLink: nothing, fillDisk: nothing, freeDisk: nothing }
  const linkOf = (site: string, name: string | null) => {
    const proxies = sites.find((one) => one.name === site)?.proxies ?? []
    return {
      setLink: (condition: Condition) => proxies.forEach((proxy) => proxy.set(condition, name)),
      cutLink: () => proxies.forEach((proxy) => proxy.cut(name)),
    }
  }
  if (role === "rank") {
    const rank = at(watch.ranks(), which)
    if (rank === undefined) return null
    const { deployment, group, rank: number, epoch, host, pid } = rank
    const name = `rank ${group} ${number} of epoch ${epoch} on ${host}`
    return { ...none, name, pid, ...linkOf(host, `${deployment}.${group}.${number}`) }
  }
  if (role === "client") {
    const site = at(
      sites.filter((one) => one.role === role),
      which,
    )
    return site === undefined ? null : { ...none, name: site.name, ...linkOf(site.name, null) }
  }
  if (role === "server") {
    const server = at(
      servers.filter(({ kept }) => kept.isUp()),
      which,
    )
    if (server === undefined) return null
    const { kept, fillDisk, freeDisk } = server
    return { ...none, name: kept.name, pid: kept.pid(), expectEnd: kept.expectEnd, fillDisk, freeDisk }
  }
  const actor = at(
    actors.filter((one) => one.role === role && one.isUp()),
    which,
  )
  if (actor === undefined) return null
  const { name, pid, expectEnd } = actor
  return { ...none, name, pid: pid(), expectEnd, ...linkOf(name, null) }
}

const at = <A>(all: ReadonlyArray<A>, which: number): A | undefined => all[which % all.length]

const DELAY: Condition = { _tag: "Delay", millis: 80 }
const THROTTLE: Condition = { _tag: "Throttle", bytesPerSecond: 24 * 1_024 }

/** What each does, and what ends it. */
const ACTS: Readonly<Record<Fault["action"], (target: Target) => (() => void) | undefined>> = {
  kill: ({ pid, expectEnd }) => {
    expectEnd()
    return void signal(pid, "SIGKILL")
  },
  freeze: ({ pid }) => {
    signal(pid, "SIGSTOP")
    return () => signal(pid, "SIGCONT")
  },
  restart: ({ pid, expectEnd }) => {
    expectEnd()
    return void signal(pid, "SIGTERM")
  },
  // A server whose disk was full has given JetStream up: making room includes starting it again.
  fill: ({ pid, fillDisk, freeDisk, expectEnd }) => {
    fillDisk()
    return () => {
      freeDisk()
      expectEnd()
      signal(pid, "SIGTERM")
    }
  },
  starve: ({ pid }) => {
    limitMemory(pid, `${addressSpaceOf(pid)}`)
    return () => limitMemory(pid, "unlimited")
  },
  advance: ({ pid }) => void signal(pid, "SIGUSR2"),
  retard: ({ pid }) => void signal(pid, "SIGWINCH"),
  delay: ({ setLink }) => link(setLink, DELAY),
  throttle: ({ setLink }) => link(setLink, THROTTLE),
  swallow: ({ setLink }) => link(setLink, { _tag: "Swallow" }),
  cut: ({ cutLink }) => void cutLink(),
}

const link = (set: Target["setLink"], condition: Condition): (() => void) => {
  set(condition)
  return () => set(CLEAR)
}

/** To no other process, should it be gone: 0 would be this process's whole group. */
const signal = (pid: number, name: NodeJS.Signals): void => {
  if (pid <= 0) return
  try {
    process.kill(pid, name)
  } catch {
    // it ended in this moment
  }
}

const limitMemory = (pid: number, bytes: string): void => {
  try {
    execFileSync("prlimit", [`--pid=${pid}`, `--as=${bytes}:unlimited`], { stdio: "ignore" })
  } catch {
    // it has ended
  }
}

/** Bytes that a process has mapped. */
const addressSpaceOf = (pid: number): number => {
  try {
    return Number(/VmSize:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) * 1_024
  } catch {
    return 0
  }
}

/** Whether a process's memory can be limited from outside: Linux, with util-linux. */
export const canLimitMemory = (): boolean => {
  try {
    execFileSync("prlimit", [`--pid=${process.pid}`], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
}
