// Supervisors share replicas, so they tell one another what each keeps there: a chat's next turn may come to any of them.
import { randomUUID } from "node:crypto"
import { Effect, Result } from "effect"
import { Bus } from "../bus/bus.ts"
import type { Prefix } from "../generation/prefixes.ts"
import { codec } from "../wire/codec.ts"
import { PrefixGossip } from "../wire/prefixGossip.ts"
import { subjectsOf } from "../wire/subjects.ts"

const news = codec("kept news", PrefixGossip)

/** What one supervisor keeps on one replica, published for the supervisors that do not keep it themselves. */
export interface Told {
  readonly kept: (prefix: Prefix) => void
  readonly freed: (session: string) => void
}

export interface PrefixGossipOptions {
  readonly deployment: string
  readonly alone: () => boolean // no other supervisor would hear it
  readonly of: (epoch: number) => Told | null // where what others keep on a replica is noted
}

/** Hears the others until the scope closes; gives the way to tell them of what is kept on a replica. */
export const tellPrefixes = Effect.fnUntraced(function* ({ deployment, alone, of }: PrefixGossipOptions) {
  const { publish, subscribe, maxPayload } = yield* Bus
  const source = randomUUID()
  const subject = subjectsOf(deployment).kept
  const hear = (message: Uint8Array): void => {
    const heard = news.decode(message)
    if (Result.isFailure(heard) || heard.success.source === source) return
    const noted = of(heard.success.epoch)
    if (heard.success._tag === "Freed") return noted?.freed(heard.success.session)
    const { session, kv, tokens, base, draft } = heard.success
    noted?.kept({ session, kv, tokens, base, draft })
  }
  const tell = (told: PrefixGossip): void => {
    if (alone()) return
    const message = news.encode(told)
    // One that a message may not have is no news: the others fill that prompt in themselves.
    if (message.byteLength <= maxPayload()) publish(subject, message)
  }
  yield* subscribe(subject, ({ data }) => hear(data))
  return (epoch: number): Told => ({
    kept: (prefix) => tell({ _tag: "Kept", source, epoch, ...prefix }),
    freed: (session) => tell({ _tag: "Freed", source, epoch, session }),
  })
})
