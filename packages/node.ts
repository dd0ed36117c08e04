// Which Node the packages run on. Below 20 there is no global crypto, which the NATS client makes names with, and before
// 20.3 no AbortSignal.any.
const MINIMUM = [20, 3] as const

export const requireNode = (name: string): void => {
  const { node } = process.versions
  const [major = 0, minor = 0] = node.split(".").map(Number)
  if (major > MINIMUM[0] || (major === MINIMUM[0] && minor >= MINIMUM[1])) return
  throw new Error(`${name} runs on Node ${MINIMUM.join(".")} or newer, on Deno and on Bun; this is Node ${node}.`)
}
