#!/usr/bin/env bash
# @huggingface/jinja 0.5.11 passes over the argument of strip, lstrip and rstrip: it takes off all white space, where Jinja on
# Python takes off the characters that it is given. Chat templates use it so: content.lstrip('\n') behind a thought must
# keep the indentation of code. Seen also: none prints as nothing (Python: None), a float 1.0 is 1 in JSON, and a variable
# that one turn of a loop sets is there in the next.
# Needs npm, Node 18 or newer, and Python 3. Fails when either side gives something else than what was seen.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund @huggingface/jinja@0.5.11
python3 -m venv python
python/bin/pip install --quiet --disable-pip-version-check jinja2==3.1.6

cat > cases.json <<'JSON'
["[{{ '\\n\\n    return 1\\n'.lstrip('\\n') }}]", "[{{ none }}]", "{{ {'a': 1.0}|tojson }}",
 "{% for i in [1, 2] %}{% if i == 1 %}{% set x = 'set' %}{% endif %}[{{ x }}]{% endfor %}"]
JSON
cat > theirs.mjs <<'JS'
import { readFileSync } from "node:fs"
import { Template } from "@huggingface/jinja"
const cases = JSON.parse(readFileSync("cases.json", "utf8"))
for (const one of cases) console.log(JSON.stringify(new Template(one).render({})))
JS
cat > python.py <<'PY'
import json
import jinja2
environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
environment.filters["tojson"] = json.dumps
for one in json.load(open("cases.json")):
    print(json.dumps(environment.from_string(one).render()))
PY

node theirs.mjs | tee theirs.txt
python/bin/python python.py | tee python.txt
diff theirs.txt - <<'SEEN'
"[return 1\n]"
"[]"
"{\"a\": 1}"
"[set][set]"
SEEN
diff python.txt - <<'SEEN'
"[    return 1\n]"
"[None]"
"{\"a\": 1.0}"
"[set][]"
SEEN
echo "as it was seen: the library differs from Jinja in all four"
