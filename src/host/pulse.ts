// What an actor's process says to the one that started it, over the channel between the two: that it serves, and, for as
// long as its event loop turns, that it is not stuck. So a parent notices a hang whatever becomes of the network.
import { Schema } from "effect"

export const PULSE_MILLIS = 250

export const Said = Schema.Union([
  Schema.TaggedStruct("Pulse", {}),
  Schema.TaggedStruct("Serving", { url: Schema.optionalKey(Schema.String) }), // of an actor that listens on a port
])
export type Said = typeof Said.Type

/** Without a parent it goes unheard. */
export const tellParent = (said: Said): void => {
  if (process.connected) process.send?.(said, undefined, {}, () => {}) // gone in this moment: the channel's end says so
}

/** For as long as the process lives. */
export const pulse = (): void => {
  if (process.connected) setInterval(() => tellParent({ _tag: "Pulse" }), PULSE_MILLIS).unref()
}
