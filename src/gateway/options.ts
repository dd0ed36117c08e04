// What a gateway is started with.
import { Context } from "effect"
import type { ApiKey } from "./keys.ts"

export interface GatewayOptions {
  readonly url: string // of NATS
  readonly host: string
  readonly port: number // 0 takes a free one
  readonly keys: ReadonlyArray<ApiKey> // none: every client may ask
  readonly requestsPerMinute: number | null // of each key, or of each address where there are no keys
  readonly requestMillis: number // a request that takes longer is ended
  readonly bodyLimit: number // bytes
  readonly keepAliveMillis: number // of silence in a stream, after which it says that it goes on
  readonly corsOrigins: ReadonlyArray<string> // whose pages may ask; "*" is all
  readonly strict: boolean // whether an unknown field is refused
}

export class Options extends Context.Service<Options, GatewayOptions>()("chorus/gateway/Options") {}
