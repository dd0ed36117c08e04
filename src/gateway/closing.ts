// The end of a gateway: what is not answered when it has to go is told so, as something that may be tried again.
import { Context, type Effect } from "effect"
import { type ApiError, apiError } from "./errors.ts"

export class Closing extends Context.Service<
  Closing,
  {
    /** Fails when answers have to end. */
    readonly over: Effect.Effect<never, ApiError>
  }
>()("chorus/gateway/Closing") {}

export const shuttingDown = apiError(
  503,
  "shutting_down",
  "this gateway was told to end before the answer was complete. Try again",
  { retryAfterMillis: 1_000 },
)
