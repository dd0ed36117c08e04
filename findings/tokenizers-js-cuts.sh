#!/usr/bin/env bash
# @huggingface/tokenizers 0.2.0 (npm) and tokenizers 0.22.1 (PyPI) read the same tokenizer.json and cut a text otherwise:
# "Punctuation" of behaviour Isolated keeps neighbours together, "Split" knows no MergedWithNext and no Isolated when it is
# inverted, "Digits" sees ASCII's alone, and single_word of an added token is not looked at.
# Seen with Node 24 and Python 3.11. Exits with 1 once one of the differences is gone. Needs npm, node, python3 with venv.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m venv python
python/bin/pip install --quiet --disable-pip-version-check tokenizers==0.22.1
npm install --silent --no-audit --no-fund --prefix . @huggingface/tokenizers@0.2.0

cat > cases.json <<'JSON'
[
  {"name": "Punctuation, Isolated", "pre_tokenizer": {"type": "Punctuation", "behavior": "Isolated"}, "text": "a?!b"},
  {"name": "Split, MergedWithNext", "pre_tokenizer": {"type": "Split", "pattern": {"String": "-"}, "behavior": "MergedWithNext", "invert": false}, "text": "a-b"},
  {"name": "Split, Isolated and inverted", "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[ab]+"}, "behavior": "Isolated", "invert": true}, "text": "ab?b"},
  {"name": "Digits, each", "pre_tokenizer": {"type": "Digits", "individual_digits": true}, "text": "a٣٤b"},
  {"name": "single_word", "pre_tokenizer": null, "text": "aab", "added": [{"id": 5, "content": "aa", "single_word": true, "lstrip": false, "rstrip": false, "normalized": false, "special": false}]}
]
JSON

# One token a word, so that the tokens are the pieces: every piece that a case may give is in the vocabulary.
cat > definition.py <<'PYTHON'
import json, sys
from tokenizers import Tokenizer
characters = sorted(set("ab?!-٣٤"))
pieces = ["?!", "-b", "a-", "٣٤", "ab", "aab", "a٣٤b"]
vocab = {text: id for id, text in enumerate(dict.fromkeys([*characters, "aa", *pieces]))}
for case in json.load(open("cases.json")):
    added = [{**token, "id": vocab[token["content"]]} for token in case.get("added", [])]
    model = {"type": "BPE", "vocab": vocab, "merges": [], "ignore_merges": True}
    parts = {"version": "1.0", "added_tokens": added, "normalizer": None, "pre_tokenizer": case["pre_tokenizer"]}
    definition = {**parts, "post_processor": None, "decoder": None, "model": model}
    tokens = Tokenizer.from_str(json.dumps(definition)).encode(case["text"]).tokens
    print(json.dumps({**case, "definition": definition, "rust": tokens}))
PYTHON
python/bin/python definition.py > cases.jsonl

cat > compare.mjs <<'JAVASCRIPT'
import { readFileSync } from "node:fs"
import { Tokenizer } from "@huggingface/tokenizers"
let gone = 0
for (const line of readFileSync("cases.jsonl", "utf8").trim().split("\n")) {
  const { name, text, definition, rust } = JSON.parse(line)
  const { tokens } = new Tokenizer(definition, {}).encode(text)
  const same = JSON.stringify(tokens) === JSON.stringify(rust)
  gone += same ? 1 : 0
  console.log(`${same ? "same     " : "different"}  ${name}: ${JSON.stringify(text)}  Rust ${JSON.stringify(rust)}  JavaScript ${JSON.stringify(tokens)}`)
}
process.exit(gone === 0 ? 0 : 1)
JAVASCRIPT
node compare.mjs
