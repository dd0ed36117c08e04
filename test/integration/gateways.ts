// Gateways as processes of their own, and a demo pair that can chat: its own files, and a template beside them.
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Schema } from "effect"
import { keyIn, natsEnvironment } from "../../src/bus/access.ts"
import { Said } from "../../src/host/pulse.ts"
import { DEMO } from "./cluster.ts"

const ACTOR = join(import.meta.dirname, "../../actors/gateway.ts")

export interface Gateway extends AsyncDisposable {
  readonly url: string
  readonly pid: number
  readonly child: ChildProcess
  readonly said: () => string
}

export interface Place {
  readonly url: string // of NATS
  readonly keys: string | null // folder; null: its server asks for none
}

/** Where it listens, when it does; before that it only says that it lives. */
const serving = (child: ChildProcess): Promise<string> =>
  new Promise((resolve) => {
    child.on("message", (message) => {
      const said = Schema.decodeUnknownSync(Said)(message)
      if (said._tag === "Serving") resolve(said.url ?? "")
    })
  })

/** Starts a gateway on a free port, of a NATS server that runs. */
export const startGateway = async (
  { url: nats, keys }: Place,
  environment: Record<string, string> = {},
): Promise<Gateway> => {
  const child = spawn(process.execPath, [ACTOR], {
    env: { ...process.env, ...natsEnvironment(nats, keyIn(keys, "gateway")), CHORUS_HTTP_PORT: "0", ...environment },
    stdio: ["ignore", "pipe", "pipe", "ipc"],
  })
  let said = ""
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => {
      said += text
    })
  }
  const ended = once(child, "exit")
  const url = await Promise.race([
    serving(child),
    ended.then(([code]) => Promise.reject(new Error(`the gateway ended with ${code}: ${said}`))),
  ])
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGTERM")
    await ended
  }
  return { url, pid: child.pid ?? 0, child, said: () => said, [Symbol.asyncDispose]: stop }
}

/** <|endoftext|> stands in the demo pair's vocabulary as the only special token. */
const TEMPLATE =
  "{% for message in messages %}{{ '// ' + message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}export {{ kind | default('') }}"

/** The demo base with a chat template, and what else it is given as generation_config.json, until it is disposed of. */
export const chatModel = (generation?: object, settings: object = {}): Disposable & { readonly path: string } => {
  const path = mkdtempSync(join(tmpdir(), "chorus-test-chat-"))
  for (const file of readdirSync(DEMO.base)) {
    if (file !== "tokenizer_config.json") symlinkSync(join(DEMO.base, file), join(path, file))
  }
  const config = { tokenizer_class: "PreTrainedTokenizerFast", eos_token: "<|endoftext|>", bos_token: "<|endoftext|>" }
  writeFileSync(
    join(path, "tokenizer_config.json"),
    JSON.stringify({ ...config, add_bos_token: false, chat_template: TEMPLATE, ...settings }),
  )
  if (generation !== undefined) writeFileSync(join(path, "generation_config.json"), JSON.stringify(generation))
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) }
}
