#!/usr/bin/env bash
# bash findings/openai-python-sse-comment.sh
# openai 3.57.0 (PyPI), Python 3: a stream of server-sent events whose first event has an `id:` ends with a JSONDecodeError
# at the first comment that has a blank line behind it. By the standard a block without data is no event, whatever came
# before; the decoder keeps the last id and so takes the block for an event, whose empty data it reads as JSON. Without
# the id, or with the comment right in front of the next event, the same stream is read to its end. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openai==3.57.0
cat >"$folder/read.py" <<'PYTHON'
import json, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from openai import OpenAI

def chunk(text):
    choice = dict(index=0, text=text, finish_reason=None, logprobs=None)
    return "data: " + json.dumps(dict(id="a", object="text_completion", created=1, model="m", choices=[choice])) + "\n"

STREAMS = {
    "comment, no id": chunk("a") + "\n" + ": ping\n\n" + chunk("b") + "\n",
    "id, no comment": "id: 1\n" + chunk("a") + "\n" + "id: 2\n" + chunk("b") + "\n",
    "id, comment in front of an event": "id: 1\n" + chunk("a") + "\n" + ": ping\n" + "id: 2\n" + chunk("b") + "\n",
    "id, comment with a blank line": "id: 1\n" + chunk("a") + "\n" + ": ping\n\n" + "id: 2\n" + chunk("b") + "\n",
}

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write((STREAMS[asked["prompt"]] + "data: [DONE]\n\n").encode())

    def log_message(self, *_):
        pass

server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none", max_retries=0)

def read(prompt):
    try:
        chunks = client.completions.create(model="m", prompt=prompt, stream=True)
        return "".join(chunk.choices[0].text for chunk in chunks)
    except Exception as error:
        return type(error).__name__

seen = {prompt: read(prompt) for prompt in STREAMS}
print(json.dumps(seen, indent=1))
assert seen == {**{prompt: "ab" for prompt in STREAMS}, "id, comment with a blank line": "JSONDecodeError"}, "it has changed"
PYTHON
"$folder/venv/bin/python" "$folder/read.py"
