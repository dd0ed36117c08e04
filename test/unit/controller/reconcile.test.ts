// What the controller does next: one step from what is wanted and what is there.
import { describe, expect, test } from "vitest"
import { formationOf, takenOver } from "../../../src/controller/formation.ts"
import { type Health, nextStep, type Situation, wanted } from "../../../src/controller/reconcile.ts"
import { ranksPart, type StoredDeployment } from "../../../src/wire/deployment.ts"
import type { Replica, Replicas, Standby } from "../../../src/wire/replicas.ts"

const group = { model: "/m", strategy: "single", ranks: 1, threads: 1, device: "CPU" } as const
const stored: StoredDeployment = {
  ...{ name: "d", base: { name: "base", ...group }, draft: null, fuzzy: 4, deterministic: true, context: 512 },
  ...{ idleTimeoutMillis: 1_000, replicas: { min: 0, max: 3, sessions: 2 }, queue: 8 },
}
const NOW = 1_000_000

const replica = (epoch: number, state: Replica["state"], change: Partial<Replica> = {}): Replica => ({
  ...{ epoch, formed: epoch, state, since: NOW - 10_000, deployment: ranksPart(stored), standbys: [] },
  ranks: [{ group: "base", rank: 0, member: 0, host: "a", device: "CPU", bytes: 1 }],
  ...change,
})

const recordOf = (...replicas: ReadonlyArray<Replica>): Replicas => ({ epoch: 9, replicas, failure: null })

const stepFor = (change: Partial<Situation>, health: Health = { _tag: "Ready" }) =>
  nextStep({
    ...{ stored, record: recordOf(), load: 0, peak: 0, sessions: () => 0, health: () => health, now: NOW },
    ...{ standbyHealth: () => "ready", hopeful: () => true },
    ...change,
  })

describe("coming and going", () => {
  test("a time that is still to come, since a clock was set, keeps no session waiting", () => {
    const draining = recordOf(replica(1, "draining", { since: NOW + 3_600_000 }))
    expect(stepFor({ record: draining })).toEqual({ _tag: "Drop", epoch: 1, failure: null })
    const failure = { kind: "start", reason: "x", count: 4, at: NOW + 3_600_000 } as const
    expect(stepFor({ record: { ...recordOf(), failure }, load: 1 })).toEqual({ _tag: "Add" })
  })

  test("cold it stays without a request, and is activated by the first", () => {
    expect(stepFor({})).toEqual({ _tag: "None" })
    expect(stepFor({ load: 1, peak: 1 })).toEqual({ _tag: "Add" })
  })

  test("activating becomes ready when its ranks are, and waits until then", () => {
    const record = recordOf(replica(1, "activating"))
    expect(stepFor({ record, load: 1 }, { _tag: "Starting" })).toEqual({ _tag: "None" })
    expect(stepFor({ record, load: 1 })).toEqual({ _tag: "Ready", epoch: 1 })
    expect(stepFor({ record, load: 1 }, { _tag: "Unstarted" })).toEqual({ _tag: "Start", epoch: 1 })
  })

  test("it drains when it has not been needed for the idle time, and is dropped when its sessions are over", () => {
    const record = recordOf(replica(1, "ready"))
    expect(stepFor({ record, peak: 1 })).toEqual({ _tag: "None" })
    expect(stepFor({ record })).toEqual({ _tag: "Drain", epoch: 1 })
    const draining = recordOf(replica(1, "draining"))
    expect(stepFor({ record: draining, sessions: () => 1 })).toEqual({ _tag: "None" })
    expect(stepFor({ record: draining })).toEqual({ _tag: "Drop", epoch: 1, failure: null })
    expect(stepFor({ record: recordOf(replica(1, "draining", { since: NOW })) })).toEqual({ _tag: "None" })
  })

  test("one that drains is taken back rather than started anew", () => {
    const record = recordOf(replica(1, "draining", { since: NOW }))
    expect(stepFor({ record, load: 1, peak: 1 })).toEqual({ _tag: "Revive", epoch: 1 })
  })

  test("one whose host leaves drains, and is not taken back", () => {
    const leaving: Health = { _tag: "Leaving", limitMillis: 20_000 }
    expect(stepFor({ record: recordOf(replica(1, "ready")), load: 1, peak: 1 }, leaving)).toEqual({
      ...{ _tag: "Drain", epoch: 1 },
    })
    const draining = recordOf(replica(1, "draining"))
    expect(stepFor({ record: draining, load: 1, peak: 1, sessions: () => 1 }, leaving)).toEqual({ _tag: "Add" })
  })

  test("when the time on a leaving host is over, sessions go on elsewhere, if there is anywhere", () => {
    const leaving = (limitMillis: number): Health => ({ _tag: "Leaving", limitMillis })
    const health =
      (limitMillis: number) =>
      ({ epoch }: Replica): Health =>
        epoch === 1 ? leaving(limitMillis) : { _tag: "Ready" }
    const busy = { load: 1, peak: 1, sessions: () => 1 }
    const alone = recordOf(replica(1, "draining"), replica(2, "activating"))
    expect(
      stepFor({ ...busy, record: alone, health: (one) => (one.epoch === 1 ? leaving(1) : { _tag: "Starting" }) }),
    ).toEqual({
      ...{ _tag: "None" },
    })
    const both = recordOf(replica(1, "draining"), replica(2, "ready"))
    expect(stepFor({ ...busy, record: both, health: health(10_001) })).toEqual({ _tag: "None" })
    expect(stepFor({ ...busy, record: both, health: health(10_000) })).toEqual({
      _tag: "Drop",
      epoch: 1,
      failure: null,
    })
    expect(stepFor({ ...busy, record: both })).toEqual({ _tag: "None" }) // one that drains for want of load has no such time
  })

  test("one that never idles has a replica without a request", () => {
    expect(stepFor({ stored: { ...stored, idleTimeoutMillis: null } })).toEqual({ _tag: "Add" })
    const record = recordOf(replica(1, "ready"))
    expect(stepFor({ stored: { ...stored, idleTimeoutMillis: null }, record })).toEqual({ _tag: "None" })
  })

  test("one that is removed drains", () => {
    expect(stepFor({ stored: null, record: recordOf(replica(1, "ready")) })).toEqual({ _tag: "Drain", epoch: 1 })
    expect(stepFor({ stored: null })).toEqual({ _tag: "None" })
  })
})

describe("a change", () => {
  const changed = { ...stored, context: 256 }
  test("of what the ranks see replaces them, the new one first where one is kept", () => {
    const record = recordOf(replica(1, "ready"))
    expect(stepFor({ stored: changed, record })).toEqual({ _tag: "Drain", epoch: 1 })
    const kept = { ...changed, replicas: { ...stored.replicas, min: 1 } }
    expect(stepFor({ stored: kept, record })).toEqual({ _tag: "Add" })
    const both = recordOf(replica(1, "ready"), replica(2, "ready", { deployment: ranksPart(changed) }))
    expect(stepFor({ stored: kept, record: both })).toEqual({ _tag: "Drain", epoch: 1 })
  })

  test("of limits alone replaces nothing", () => {
    const record = recordOf(replica(1, "ready"))
    expect(stepFor({ stored: { ...stored, queue: 1 }, record, load: 1, peak: 1 })).toEqual({ _tag: "None" })
  })
})

describe("load", () => {
  test("asks for a replica for each number of sessions, from min to max", () => {
    expect([0, 1, 2, 3, 5, 100].map((load) => wanted(stored, load))).toEqual([0, 1, 1, 2, 3, 3])
    expect(wanted({ ...stored, replicas: { min: 2, max: 3, sessions: 2 } }, 0)).toBe(2)
  })

  test("adds one at a time, and takes the idlest away when the peak is over", () => {
    const record = recordOf(replica(1, "ready"), replica(2, "ready"))
    expect(stepFor({ record, load: 5, peak: 5 })).toEqual({ _tag: "Add" })
    expect(stepFor({ record, load: 2, peak: 3 })).toEqual({ _tag: "None" })
    const sessions = (epoch: number) => (epoch === 1 ? 0 : 2)
    expect(stepFor({ record, load: 2, peak: 2, sessions })).toEqual({ _tag: "Drain", epoch: 1 })
  })
})

describe("what goes wrong", () => {
  const gone: Health = { _tag: "Gone", reason: "host a is gone" }
  const failed: Health = { _tag: "Failed", reason: "rank 0 of base on a: no" }

  test("a host that is gone is no failure of the replica, so sessions that wait go on waiting", () => {
    expect(stepFor({ record: recordOf(replica(1, "activating")), load: 1 }, gone)).toEqual({
      ...{ _tag: "Drop", epoch: 1, failure: null },
    })
  })

  test("ranks that cannot start are one, and the next try waits longer each time", () => {
    expect(stepFor({ record: recordOf(replica(1, "activating")), load: 1 }, failed)).toEqual({
      ...{ _tag: "Drop", epoch: 1, failure: failed.reason },
    })
    const failure = (count: number, ago: number): Replicas["failure"] => ({
      ...{ kind: "start", reason: "no", count, at: NOW - ago },
    })
    const after = (count: number, ago: number) =>
      stepFor({ record: { ...recordOf(), failure: failure(count, ago) }, load: 1, peak: 1 })._tag
    expect([after(1, 500), after(1, 1_000), after(3, 3_000), after(3, 4_000), after(20, 30_000)]).toEqual([
      ...["None", "Add", "None", "Add", "Add"],
    ])
  })
})

describe("standbys", () => {
  const guarded: StoredDeployment = { ...stored, standby: 1, replicas: { min: 1, max: 1, sessions: 2 } }
  const standby: Standby = { group: "base", member: 12, host: "b", device: "CPU", bytes: 1 }
  const bare = recordOf(replica(1, "ready"))
  const record = recordOf(replica(1, "ready", { standbys: [standby] }))

  test("one of each group is placed once the replica is ready, unless no place was found just now", () => {
    expect(stepFor({ stored: guarded, record: bare })).toEqual({ _tag: "StandBy", epoch: 1, group: "base" })
    expect(stepFor({ stored: guarded, record: bare }, { _tag: "Starting" })).toEqual({ _tag: "None" })
    expect(stepFor({ stored: guarded, record: bare, hopeful: () => false })).toEqual({ _tag: "None" })
    expect(stepFor({ stored: guarded, record })).toEqual({ _tag: "None" })
    expect(stepFor({ stored, record: bare, load: 1, peak: 1 })).toEqual({ _tag: "None" })
  })

  test("it takes the place of a rank that is lost, before anything else", () => {
    const lost: Health = { _tag: "Lost", ranks: [{ group: "base", rank: 0 }] }
    expect(stepFor({ stored: guarded, record }, lost)).toEqual({ ...{ _tag: "TakeOver", epoch: 1 }, ranks: lost.ranks })
  })

  test("one that is lost, or not wanted any more, is dismissed; one that its host does not know is started", () => {
    const dismissed = { _tag: "Dismiss", epoch: 1, standby }
    expect(stepFor({ stored: guarded, record, standbyHealth: () => "lost" })).toEqual(dismissed)
    expect(stepFor({ stored: { ...guarded, standby: 0 }, record })).toEqual(dismissed)
    const unstarted = stepFor({ stored: guarded, record, standbyHealth: () => "unstarted" })
    expect(unstarted).toEqual({ _tag: "Start", epoch: 1 })
  })

  test("a place that is taken begins another epoch, in which the lost process has none", () => {
    const [before] = record.replicas
    const after = before && takenOver(before, [{ group: "base", rank: 0 }], { formed: 10, now: NOW })
    expect(after).toMatchObject({ epoch: 1, formed: 10, since: NOW, standbys: [], ranks: [{ ...standby, rank: 0 }] })
    expect(after && formationOf(after)).toEqual({ _tag: "Formation", epoch: 10, base: [12], draft: [], prefill: [] })
    expect(after && takenOver(after, [{ group: "base", rank: 0 }], { formed: 11, now: NOW })).toBe(null)
  })
})
