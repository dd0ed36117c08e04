// The number by which what a process says of itself, and what its host says of it, are known to be of the same one.
import { Context } from "effect"

export const ProcessId = Context.Reference<number>("chorus/bus/ProcessId", { defaultValue: () => process.pid })
