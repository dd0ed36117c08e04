// The gateway as OpenAI's official client for Python sees it.
import { execFile, spawnSync } from "node:child_process"
import { promisify } from "node:util"
import { afterAll, beforeAll, expect, test } from "vitest"
import { Cluster } from "./cluster.ts"
import { pythonEnvironment } from "./python.ts"

const hasPython = spawnSync("python3", ["--version"]).status === 0
const run = promisify(execFile) // a process that waits for another one would miss NATS' pings

const PROMPT = "export class Queue<T> {\n"

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
    usage=chunks[-1].usage.completion_tokens, refusals=refusals)))
`

let cluster: Cluster
let python: string
beforeAll(async () => {
  if (!hasPython) return
  python = await pythonEnvironment()
  cluster = await Cluster.start({ name: "demo", draft: null, gateway: { CHORUS_HTTP_PORT: "0" } })
})
afterAll(() => cluster?.[Symbol.asyncDispose]())

const suite = hasPython ? test : test.skip

suite(`OpenAI's client for Python${hasPython ? "" : " (install python3 with pip and venv to run this)"}`, async () => {
  const { stdout, stderr } = await run(python, ["-c", SCRIPT, `${cluster.local.http}`, PROMPT])
  expect(stderr).toBe("")
  const { text } = await cluster.generate({ prompt: PROMPT, maxTokens: 16, temperature: 0 })
  expect(JSON.parse(stdout)).toEqual({
    ...{ models: ["demo"], text, finish: "length", tokens: 16, streamed: text, usage: 16 },
    refusals: [
      ["NotFoundError", 404, "model"],
      ["BadRequestError", 400, "temperature"],
    ],
  })
})
