// docs/PROTOCOL.md is enough to write a client in another language: one of some fifty lines of Python gets the same tokens.
import { spawn } from "node:child_process"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { expect, test } from "vitest"
import { pythonEnvironment } from "../python.ts"
import { PROMPT, TREE } from "../requests.ts"
import { oneCluster } from "./cluster.ts"

test("whole answers, streams, cancelling and errors in Python", { timeout: 120_000 }, async () => {
  const python = await pythonEnvironment()
  const cluster = await oneCluster()
  const script = join(import.meta.dirname, "../../python/client.py")
  const child = spawn(python, [script, cluster.local.url, "test", join(cluster.local.keys ?? "", "client/client.nk")], {
    stdio: ["pipe", "pipe", "inherit"],
  })
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
  const ask = async (command: "infer" | "stream", request: object): Promise<unknown> => {
    child.stdin.write(`${JSON.stringify([command, request])}\n`)
    const { value } = await lines.next()
    return JSON.parse(String(value))
  }
  try {
    const request = { prompt: PROMPT, maxTokens: 24, temperature: 0.8, speculation: TREE }
    for (const seed of [5, 2 ** 40, Number.MAX_SAFE_INTEGER]) {
      const { tokens, text } = await cluster.generate({ ...request, seed: BigInt(seed) })
      expect(await ask("infer", { ...request, seed })).toMatchObject({ _tag: "Answered", tokens, text, seed })
      expect(await ask("stream", { ...request, seed })).toMatchObject({ tokens, finishReason: "length" })
    }
    expect(await ask("stream", { ...request, maxTokens: 400, cancel_after: 3 })).toMatchObject({
      finishReason: "cancelled",
    })
    expect(await ask("infer", { ...request, temperature: -1 })).toMatchObject({
      ...{ refused: "InvalidRequest", field: "temperature" },
    })
    expect(await ask("infer", { ...request, colour: "red" })).toMatchObject({
      ...{ refused: "MalformedMessage", field: "colour" },
    })
  } finally {
    child.stdin.end()
    await new Promise((resolve) => child.once("exit", resolve))
  }
  expect(child.exitCode).toBe(0)
})
