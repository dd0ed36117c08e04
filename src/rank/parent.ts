// A rank never outlives the process that started it, however that one ended: SIGKILL leaves no time to say goodbye.
import { fstatSync } from "node:fs"

/** Longer than a drain takes. */
const GRACE_MILLIS = 10_000

/** Drains and ends the process when its parent is gone, as the end of the IPC channel, or of a piped stdin, tells. */
export const endWithParent = (): void => {
  const end = () => {
    process.kill(process.pid, "SIGTERM")
    setTimeout(() => process.exit(1), GRACE_MILLIS).unref()
  }
  if (process.connected) {
    process.once("disconnect", end)
    process.channel?.unref()
  } else if (isPiped()) {
    process.stdin.once("end", end).once("error", end).resume()
  }
}

/** Whether stdin is a pipe: not a terminal, and not /dev/null, which ends at once. */
const isPiped = (): boolean => {
  try {
    const stdin = fstatSync(0)
    return stdin.isFIFO() || stdin.isSocket()
  } catch {
    return false // closed
  }
}
