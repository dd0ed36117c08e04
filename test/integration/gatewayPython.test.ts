// The gateway as OpenAI's official client for Python sees it.
import { execFile, spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { promisify } from "node:util"
import { afterAll, beforeAll, expect, test } from "vitest"
import { Cluster } from "./cluster.ts"
import { chatModel, startGateway } from "./gateways.ts"
import { pythonEnvironment } from "./python.ts"
import { PROMPT } from "./requests.ts"

const hasPython = spawnSync("python3", ["--version"]).status === 0
const run = promisify(execFile) // a process that waits for another one would miss NATS' pings

const LONG = PROMPT.repeat(3) // KV is kept by blocks of sixteen tokens

const SCRIPT = `
import json, sys
from openai import OpenAI, BadRequestError, NotFoundError
client = OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
request = dict(model="demo", prompt=sys.argv[2], max_tokens=16, temperature=0)
whole = client.completions.create(**request)
chunks = list(client.completions.create(**request, stream=True, stream_options={"include_usage": True}))
refusals = []
for change in [{"model": "nobody"}, {"temperature": 9}]:
    try:
        client.completions.create(**{**request, **change})
    except (BadRequestError, NotFoundError) as error:
        refusals.append([type(error).__name__, error.status_code, error.param])
print(json.dumps(dict(
    models=[model.id for model in client.models.list()],
    text=whole.choices[0].text, finish=whole.choices[0].finish_reason, tokens=whole.usage.completion_tokens,
    streamed="".join(choice.text for chunk in chunks for choice in chunk.choices),
    usage=chunks[-1].usage.completion_tokens, refusals=refusals,
    cached=[answer.usage.prompt_tokens_details.cached_tokens for answer in (whole, chunks[-1])])))
`

/** OpenAI's client with and without ids, and a reader as benchmarks have them, which takes each line for JSON. */
const SILENT = `
import json, sys, urllib.request
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from openai import OpenAI
url, content = sys.argv[1:]
client = OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
request = dict(model="demo", messages=[dict(role="user", content=content)], max_tokens=16, temperature=0, stream=True)
open = Barrier(4)

def by_client(headers):
    stream = client.chat.completions.create(**request, extra_headers=headers)
    open.wait()
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

def by_line():
    body = json.dumps(request).encode()
    headers = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url + "/v1/chat/completions", body, headers)) as response:
        open.wait()
        lines = [line.strip().removeprefix(b"data: ") for line in response]
    events = [json.loads(line) for line in lines if line not in (b"", b"[DONE]")]
    return "".join(event["choices"][0]["delta"].get("content", "") for event in events)

print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor() as pool:
    texts = [pool.submit(by_client, {}), pool.submit(by_client, {"X-Chorus-Resume": "30"}), pool.submit(by_line)]
    open.wait()
    print("open", flush=True)
    print(json.dumps([text.result() for text in texts]))
`

let cluster: Cluster
let python: string
const base = chatModel()
beforeAll(async () => {
  if (!hasPython) return
  python = await pythonEnvironment()
  // One long session at a time, which leaves no room for others.
  const limits = { kvTokens: 512, queue: 32, keepMillis: 60_000 }
  cluster = await Cluster.start({
    ...{ name: "demo", base: base.path, draft: null, limits },
    gateway: { CHORUS_HTTP_PORT: "0" },
  })
})
afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]()
  base[Symbol.dispose]()
})

const suite = hasPython ? test : test.skip

suite(`OpenAI's client for Python${hasPython ? "" : " (install python3 with pip and venv to run this)"}`, async () => {
  const { stdout, stderr } = await run(python, ["-c", SCRIPT, `${cluster.local.http}`, LONG])
  expect(stderr).toBe("")
  const { text, stats } = await cluster.generate({ prompt: LONG, maxTokens: 16, temperature: 0 })
  const { promptTokens } = stats
  expect(JSON.parse(stdout)).toEqual({
    ...{ models: ["demo"], text, finish: "length", tokens: 16, streamed: text, usage: 16 },
    refusals: [
      ["NotFoundError", 404, "model"],
      ["BadRequestError", 400, "temperature"],
    ],
    cached: [0, promptTokens - 1], // the last one is computed anyhow: it gives the first of the answer
  })
})

/** Says line by line what a script says. */
const started = (script: string, args: ReadonlyArray<string>) => {
  const child = spawn(python, ["-c", script, ...args], { stdio: ["pipe", "pipe", "inherit"] })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return { child, says: async (): Promise<string> => (await lines.next()).value ?? "nothing" }
}

/** What comes of a stream, and when it has been silent so often. */
const listener = (response: Response) => {
  let text = ""
  const enough = Promise.withResolvers<void>()
  const ended = (async () => {
    for await (const piece of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      text += piece
      if (/\ndata: {4,}$|(: .*\n){3,}$/.test(text)) enough.resolve()
    }
    enough.reject(new Error(`the stream ended before it was silent: ${text}`))
    return text
  })()
  return { silent: enough.promise, ended }
}

suite("silences of a stream disturb neither OpenAI's client nor a benchmark's reader", async () => {
  await using gateway = await startGateway(cluster.local, { CHORUS_HTTP_KEEP_ALIVE: "0.1" })
  const messages = [{ role: "user", content: "Say something." }]
  const ask = async (headers: Record<string, string>) =>
    listener(
      await fetch(`${gateway.url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", ...headers },
        body: JSON.stringify({ model: "demo", messages, max_tokens: 16, temperature: 0, stream: true }),
      }),
    )
  const clients = started(SILENT, [gateway.url, "Say something."])
  expect(await clients.says()).toBe("ready")
  const long = { prompt: PROMPT, maxTokens: 480, temperature: 1 }
  const fillers = await Promise.all(Array.from({ length: 16 }, () => cluster.client.generate(long)))
  clients.child.stdin.end("go\n")
  expect(await clients.says()).toBe("open")
  const [plain, resumable] = await Promise.all([ask({}), ask({ "x-chorus-resume": "30" })])
  await Promise.all([plain.silent, resumable.silent])
  for (const filler of fillers) filler.cancel()
  const { text } = await cluster.generate({ messages, maxTokens: 16, temperature: 0 })
  expect(JSON.parse(await clients.says())).toEqual([text, text, text])
  expect((await once(clients.child, "exit"))[0]).toBe(0)
  expect(await plain.ended).not.toMatch(/^(?!data: |$)/m)
  expect(await resumable.ended).toMatch(/^: .*\nid: /m)
  expect(await resumable.ended).not.toMatch(/^: .*\n\n/m)
})
