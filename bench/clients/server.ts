// What the clients are tried with: `chorus up` with the demo pair, which is given a chat template, and beside it a deployment
// that has room for one session at a time, so that a stream there is silent for as long as others are before it.
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Schema } from "effect"
import { BenchFailed } from "../failure.ts"
import { pathsOf } from "../models.ts"

const BINARY = join(import.meta.dirname, "../../bin/chorus.js")

export const KEY = "the-clients-key"
export const MODEL = "demo"
export const HELD = "held"
export const CONTEXT = 512 // tokens

/** A stream that says nothing for so long is filled. */
const KEEP_ALIVE_SECONDS = 1

const TEMPLATE =
  "{% for message in messages %}{{ '// ' + message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}export "

const Ready = Schema.Struct({ nats: Schema.String, keys: Schema.NullOr(Schema.String), http: Schema.String })
const decodeReady = Schema.decodeUnknownSync(Schema.fromJsonString(Ready))

export interface Server extends AsyncDisposable {
  readonly nats: string // URL
  readonly keys: string | null // folder, for NATS
  readonly http: string // URL
  readonly base: string // folder of the base's model
  readonly folder: string // for what drivers write; gone with the server
}

export const startServer = async (): Promise<Server> => {
  const folder = mkdtempSync(join(tmpdir(), "chorus-clients-"))
  const paths = pathsOf(["demo/base", "demo/draft"])
  const base = chatModel(paths["demo/base"], join(folder, "base"))
  const keys = join(folder, "keys.txt")
  writeFileSync(keys, `${KEY}\n`)
  const models = ["--base", base, "--draft", paths["demo/draft"], "--threads", "1", "--context", `${CONTEXT}`]
  const http = ["--port", "0", "--api-keys", keys, "--keep-alive", `${KEEP_ALIVE_SECONDS}`]
  const child = chorus(["up", "--name", MODEL, ...models, ...http, "--json"], folder)
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      const ended = once(child, "exit")
      child.kill("SIGTERM")
      await ended
    }
    rmSync(folder, { recursive: true })
  }
  try {
    const ready = decodeReady(await firstLine(child))
    await deployHeld({ ...ready, base, folder })
    return { ...ready, base, folder, [Symbol.asyncDispose]: stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** The demo base with a chat template. */
const chatModel = (model: string, folder: string): string => {
  mkdirSync(folder)
  for (const file of readdirSync(model)) copyFileSync(join(model, file), join(folder, file))
  const file = join(folder, "tokenizer_config.json")
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), chat_template: TEMPLATE }))
  return folder
}

const deployHeld = async ({ nats, keys, base, folder }: Omit<Server, typeof Symbol.asyncDispose | "http">) => {
  const limits = { context: CONTEXT, kvTokens: CONTEXT, queue: 1_000 }
  const held = { name: HELD, base: { model: base, threads: 1 }, ...limits, replicas: { min: 1 } }
  const file = join(folder, "held.json")
  writeFileSync(file, JSON.stringify(held))
  const child = chorus(["deploy", file, "--nats", nats, ...(keys === null ? [] : ["--keys", keys])], folder)
  await firstLine(child)
}

const chorus = (args: ReadonlyArray<string>, folder: string): ChildProcess => {
  const env = { ...process.env, XDG_RUNTIME_DIR: folder } // another `chorus up` on this machine has its own
  return spawn(process.execPath, [BINARY, ...args], { env, stdio: ["ignore", "pipe", "pipe"] })
}

/** Of what a command says on stdout; fails with what it says on stderr. */
const firstLine = (child: ChildProcess): Promise<string> =>
  new Promise((resolve, reject) => {
    let [said, complained] = ["", ""]
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      complained += text
    })
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      said += text
      if (said.includes("\n")) resolve(said.slice(0, said.indexOf("\n")))
    })
    child.once("close", (code) => reject(new BenchFailed(`chorus ended with ${code}: ${complained.trim()}`)))
  })
