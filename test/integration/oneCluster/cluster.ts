// The deployment of the tests that only read: started by the first of them that asks for it, ended when the last is done.
// What they do to a session they do to one of their own, and they run one after the other, so each finds the ranks free.
import { afterAll } from "vitest"
import { Cluster } from "../cluster.ts"

let started: Promise<Cluster> | undefined

export const oneCluster = (): Promise<Cluster> => {
  started ??= Cluster.start()
  return started
}

afterAll(async () => (await started)?.[Symbol.asyncDispose]())
