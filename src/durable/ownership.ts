// The owner of an execution: what its record says, and which engine may take it. Pure; the store writes by revision, so of
// several that take the same one, one does.
import { Context, Schema } from "effect"
import { Count } from "../wire/scalar.ts"

/** An execution that has not ended. */
export const Execution = Schema.Struct({
  workflow: Schema.String,
  payload: Schema.Unknown, // JSON, as the workflow's schema encodes it
  owner: Schema.String, // empty: it was handed over, to the first engine that claims it
  epoch: Count, // 1 for the engine that began it, one more for each owner after
  parent: Schema.NullOr(Schema.String), // the execution that waits for this one
  interrupted: Schema.NullOr(Schema.Literals(["safe", "unsafe"])),
  wakes: Count, // how often a process other than the owner has resumed it
})
export type Execution = typeof Execution.Type

export const claimable = ({ owner }: Pick<Execution, "owner">, isAlive: (owner: string) => boolean): boolean =>
  owner === "" || !isAlive(owner)

export const claimed = (execution: Execution, owner: string): Execution => ({
  ...execution,
  owner,
  epoch: execution.epoch + 1,
})

export const handedOver = (execution: Execution): Execution => ({ ...execution, owner: "" })

/** How a workflow that runs has come to be run here. */
export const Ownership = Context.Reference<Pick<Execution, "epoch">>("chorus/durable/Ownership", {
  defaultValue: () => ({ epoch: 1 }),
})
