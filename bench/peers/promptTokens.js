// Makes test/golden/prompts-llama.json: what llama.cpp makes of text prompts, and how it goes on greedily. The prompts are
// tokenized as its server does it: control tokens read, bos where the file adds it. An answer ends before the first token
// whose two best logits lie closer than its file's margin, since either may win on another CPU or by another order of sums.
//   npm install --prefix bench --no-save --omit=optional && node bin/node24.js bench/peers/promptTokens.js
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"
import { getLlama } from "node-llama-cpp"

/** q4_1's logits differ by more than 0.2 between AVX2 and AVX-512, in llama.cpp itself. */
const MARGINS = { smollm2: 0.5, "coder-0.5b": 0.2, "coder-1.5b": 0.2 }
const MOST_TOKENS = 6
const LEAST_TOKENS = 2

const FOLDER = process.env.CHORUS_MODELS_DIR ?? join(homedir(), ".cache/chorus/models")
const FILES = {
  smollm2: "smollm2-135m-instruct-q4_1.gguf",
  "coder-0.5b": "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
  "coder-1.5b": "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
}

const TEXTS = [
  "The capital of France is",
  "def fibonacci(n):",
  "def is_prime(n):\n    ",
  "import numpy as np\nimport pandas as",
  "for i in range(",
  "1, 2, 3, 4, 5, 6, 7,",
  "Monday, Tuesday, Wednesday,",
  "January, February, March, April,",
  "The quick brown fox jumps over the",
  "To be, or not to be, that is the",
  "Roses are red, violets are",
  "Once upon a time, there was a",
  "The opposite of hot is",
  "Two plus two equals",
  "The largest planet in the solar system is",
  "Water boils at 100 degrees",
  "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n",
  "SELECT * FROM users WHERE",
  "#include <stdio.h>\n\nint main(",
  "function add(a, b) {\n",
  "const express = require(",
  "<!DOCTYPE html>\n<html>\n<head>\n",
  "A: Hello!\nB: Hello!\nA: Hello!\nB:",
  "a b c d e f g h i j",
  "2, 4, 8, 16, 32,",
  "print('Hello,",
  "public static void main(",
  "package main\n\nimport (\n",
  "try:\n    import json\nexcept ImportError:\n    ",
  "def add(a, b):\n    return a + b\n\ndef subtract(a, b):\n    return",
  "if __name__ ==",
  "git commit -m",
  "The chemical symbol for gold is",
  "The sun rises in the east and sets in the",
  "# Installation\n\n```sh\npip install",
  "Der Himmel ist blau, und das Gras ist",
  "日本の首都は",
  "x = [1, 2, 3]\nprint(len(",
  "let mut v = Vec::new();\nv.push(",
  '{\n  "name": "Alice",\n  "age": 30\n},\n{\n  "name": "Bob",\n  "age":',
  "red, green, blue, red, green, blue, red,",
  "Dear Sir or Madam,\n\nI am writing to",
  "ABCDEFGHIJKLMNOPQRSTUV",
  "while (true) {\n  ",
  "The first president of the United States was George",
  "    return a * b\n\n    def divide(self, a, b):\n",
  "one two three four five six",
  "x1 = 1\nx2 = 2\nx3 = 3\nx4 =",
  "A is for apple, B is for banana, C is for",
  "north, south, east, west, north, south, east,",
  "10 9 8 7 6 5",
  "foo(1)\nfoo(2)\nfoo(3)\nfoo(",
  "<li>one</li>\n<li>two</li>\n<li>",
  "def square(x):\n    return x * x\n\ndef cube(x):\n    return",
  "Paris is the capital of France. Rome is the capital of",
  "cat, cats; dog, dogs; bird,",
  "case 1: return 'one';\ncase 2: return 'two';\ncase 3: return",
  "0.1, 0.2, 0.3, 0.4,",
  "do re mi fa sol",
  "hello hello hello hello hello",
  "[1, 4, 9, 16, 25,",
  "Knock, knock.\nWho's there?\nKnock, knock.\nWho's",
  "abcabcabcabcabc",
  "E = mc",
  'std::cout << "Hello" <<',
  "import os\nimport sys\nimport",
  "1 + 1 = 2\n2 + 2 = 4\n3 + 3 =",
  "Yes. No. Yes. No. Yes.",
]

const turn = (role, content) => `<|im_start|>${role}\n${content}<|im_end|>\n`
const answer = "<|im_start|>assistant\n"
const CHATS = [
  turn("user", "What is the capital of France?") + answer,
  turn("system", "You are a helpful assistant.") + turn("user", "Say hello.") + answer,
  turn("user", "2 + 2 = ?") + answer,
  `${turn("user", "Count from 1 to 5.") + answer}1, 2,`,
  `${turn("user", "Name a color.") + answer}Red<|im_end|>\n${turn("user", "Another one.")}${answer}`,
  `${turn("system", "Answer in one word.") + turn("user", "Is the sky blue?")}${answer}`,
  `def one():\n    return 1\n<|endoftext|>def two():\n    return`,
  `<|endoftext|>The capital of Italy is`,
  `${turn("user", "Write a Python function that adds two numbers.") + answer}`,
  `${turn("user", "Translate to French: Good morning")}${answer}`,
  `The end.<|endoftext|>#include <stdio.h>\n\nint main(`,
  `${turn("user", "Say yes.")}${answer}Yes<|im_end|>\n${turn("user", "Say yes.")}${answer}`,
  `${turn("user", "Repeat: a b c")}${answer}a b`,
  `${turn("user", "What is 1 + 1?")}${answer}1 + 1 =`,
  `<|im_start|>user\nCount to ten.<|im_end|>\n<|im_start|>assistant\n1, 2, 3, 4,`,
  `<|endoftext|>1, 2, 3, 4, 5,`,
  `<|endoftext|><|endoftext|>def fibonacci(n):`,
  `${turn("user", "Hello<|im_end|>\n<|im_start|>assistant\nHi")}${answer}`,
]
const infill = (before, after) => `<|fim_prefix|>${before}<|fim_suffix|>${after}<|fim_middle|>`
const INFILLS = [
  infill("def add(a, b):\n    ", "\n\nprint(add(1, 2))"),
  infill("def greet(name):\n    print(", ")\n"),
  infill("for i in range(10):\n    ", "\n"),
  infill("const square = (x) => ", ";\nconsole.log(square(3));"),
  infill("import ", "\n\nprint(math.sqrt(2))\n"),
]

process.execArgv = [] // node-llama-cpp hands it on to processes of its own
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error", maxThreads: 2 })

const MODELS = Object.keys(FILES).filter((name) => existsSync(join(FOLDER, FILES[name])))

const greedy = async ({ model, sequence, margin }, tokens) => {
  const answer = []
  let given = tokens
  await sequence.clearHistory()
  while (answer.length < MOST_TOKENS) {
    const options = { generateNext: { logits: { filter: { tokens: [], includeTop: 2 } } } }
    const results = await sequence.controlledEvaluate([...given.slice(0, -1), [given.at(-1), options]])
    const [[best, logit], [, second]] = [...results.at(-1).next.logits].toSorted((a, b) => b[1] - a[1])
    if (logit - second < margin) break
    if (model.isEogToken(best)) return { answer, ends: true }
    answer.push(best)
    given = [best]
  }
  return { answer, ends: false }
}

const modelsOf = async (name) => {
  const model = await llama.loadModel({ modelPath: join(FOLDER, FILES[name]) })
  const context = await model.createContext({ contextSize: 512, threads: 2 })
  const sequence = context.getSequence()
  const ask = async (prompt) => {
    const text = model.tokenize(prompt, true)
    const tokens = model.tokens.shouldPrependBosToken ? [model.tokens.bos, ...text] : text
    const { answer, ends } = await greedy({ model, sequence, margin: MARGINS[name] }, tokens)
    return { prompt, tokens, answer, ends }
  }
  const kept = async (prompts, count) => {
    const all = []
    for (const prompt of prompts) {
      if (all.length === count) break
      const one = await ask(prompt)
      if (one.answer.length >= LEAST_TOKENS || one.ends) all.push(one)
    }
    if (all.length < count) process.stderr.write(`${name}: ${all.length} of ${count}\n`)
    return all
  }
  const controls = name === "smollm2" ? CHATS : [...INFILLS, ...CHATS]
  const result = [...(await kept(TEXTS, 30)), ...(await kept(controls, 10))]
  await context.dispose()
  await model.dispose()
  return result
}

const PATH = join(import.meta.dirname, "../../test/golden/prompts-llama.json")
const about = {
  made: "node bin/node24.js bench/peers/promptTokens.js",
  by: `llama.cpp ${llama.llamaCppRelease.release}`,
  margins: MARGINS, // every token's logit is as much or more above the next one's: answers are cut before one that is not
}
const write = (models) => {
  const lines = (prompts) => prompts.map((one) => `    ${JSON.stringify(one)}`).join(",\n")
  const body = Object.entries(models).map(([name, prompts]) => `  ${JSON.stringify(name)}: [\n${lines(prompts)}\n  ]`)
  writeFileSync(PATH, `{\n  "about": ${JSON.stringify(about)},\n${body.join(",\n")}\n}\n`)
}

// A model that has its forty already is kept: remove the file to make all anew.
const { about: _, ...models } = existsSync(PATH) ? JSON.parse(readFileSync(PATH, "utf8")) : {}
for (const name of MODELS) {
  if (models[name]?.length === 40) continue
  models[name] = await modelsOf(name)
  write(models)
}
process.exit(0)
