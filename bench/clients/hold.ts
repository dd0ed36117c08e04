// The held deployment, kept busy: a request meanwhile waits, and its stream is silent, until the hold is let go.

import { BenchFailed } from "../failure.ts"
import { HOLDING } from "./expected.ts"
import { KEY } from "./server.ts"

export interface Hold {
  /** Waiting requests are served now. Fails where the hold has ended before. */
  readonly letGo: () => void
}

export const holdDeployment = async (http: string): Promise<Hold> => {
  const leaving = new AbortController()
  const answer = await fetch(`${http}/v1/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
    body: JSON.stringify(HOLDING),
    signal: leaving.signal,
  })
  if (!answer.ok) throw new BenchFailed(`the deployment could not be kept busy: ${await answer.text()}`)
  let ended = false
  const reading = async (): Promise<void> => {
    for await (const _ of answer.body ?? []);
    ended = true
  }
  reading().catch(() => {}) // it is left, so it breaks off
  return {
    letGo: () => {
      if (ended) throw new BenchFailed("this machine is too fast to be kept busy: make the hold longer")
      leaving.abort()
    },
  }
}
