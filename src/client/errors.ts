// What a client hears of itself, beside the wire's errors.
import { RequestError } from "@nats-io/transport-node"
import { Schema } from "effect"

/** No supervisor of that deployment listens. */
export class NotServed extends Schema.TaggedError<NotServed>()("NotServed", {
  deployment: Schema.String,
  url: Schema.String,
}) {
  override get message() {
    return `${this.deployment} is not served at ${this.url}. \`chorus up --name ${this.deployment}\` serves it.`
  }
}

/** A request was heard and not answered in time. */
export class NoAnswer extends Schema.TaggedError<NoAnswer>()("NoAnswer", {
  deployment: Schema.String,
  millis: Schema.Int,
}) {
  override get message() {
    return `${this.deployment} has not answered within ${this.millis} ms. Ask again: the same request and seed give the same tokens.`
  }
}

/** There is no connection, or it went while only it knew of the question. */
export class Disconnected extends Schema.TaggedError<Disconnected>()("Disconnected", {
  url: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `no connection to NATS at ${this.url}: ${this.reason}`
  }
}

/** A tagged error as it is; any other error of NATS means that no supervisor serves, or that none could be asked. */
export const typed = (error: unknown, { url, deployment }: Pick<NotServed, "url" | "deployment">): unknown => {
  if (error instanceof Error && "_tag" in error) return error
  if (error instanceof RequestError && error.isNoResponders()) return new NotServed({ url, deployment })
  return new Disconnected({ url, reason: error instanceof Error ? error.message : String(error) })
}
