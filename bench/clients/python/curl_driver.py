"""curl, as in the README."""

import json
import subprocess

from driver import asked, messages, serve, together

text = {"model": asked.model, "prompt": asked.prompt, "max_tokens": asked.maxTokens, "temperature": 0}
chat = {"model": asked.model, "messages": messages, "max_tokens": asked.maxTokens, "temperature": 0}


def command(path, body=None, key=asked.key):
    content = [] if body is None else ["-H", "content-type: application/json", "-d", json.dumps(body)]
    return ["curl", "-sSN", "-w", "\n%{http_code}", "-H", f"authorization: Bearer {key}", *content, f"{asked.url}/{path}"]


def curl(path, body=None, key=asked.key):
    done = subprocess.run(command(path, body, key), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    said, _, status = done.stdout.rpartition("\n")
    return said, int(status)


def answer(path, body=None):
    said, status = curl(path, body)
    assert status == 200, said
    return json.loads(said)


def data_of(lines):
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ") and line.strip() != "data: [DONE]"]


def completed(**change):
    said = answer("completions", {**text, **change})
    return {"of": "completion", "texts": [choice["text"] for choice in said["choices"]]}


def in_pieces(path, body, piece_of, of):
    said, _ = curl(path, {**body, "stream": True})
    pieces = [piece_of(choice) for data in data_of(said.splitlines()) for choice in data["choices"]]
    pieces = [piece for piece in pieces if piece]
    return {"of": of, "texts": ["".join(pieces)], "pieces": len(pieces)}


def completed_in_pieces(**change):
    return in_pieces("completions", {**text, **change}, lambda choice: choice["text"], "completion")


def chatted_in_pieces(**change):
    return in_pieces("chat/completions", {**chat, **change}, lambda choice: choice["delta"].get("content"), "chat")


def refused(body, key=asked.key):
    said, status = curl("completions", body, key)
    return {"status": status, "param": json.loads(said)["error"]["param"]}


def hung_up():
    body = {**chat, "model": asked.held, "stream": True}
    with subprocess.Popen(command("chat/completions", body), stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        child.kill()
    return {}


def version():
    return subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]


serve(
    version(),
    {
        "models": lambda: {"models": [model["id"] for model in answer("models")["data"]]},
        "completion": completed,
        "streamed completion": completed_in_pieces,
        "streamed chat": chatted_in_pieces,
        "characters": lambda: completed_in_pieces(prompt=asked.accents),
        "eight at once": lambda: {
            "of": "completion",
            "texts": together(lambda seed: completed(temperature=1, seed=seed)["texts"][0]),
        },
        "bad field": lambda: refused({**text, "top_p": 9}),
        "unknown model": lambda: refused({**text, "model": "nobody"}),
        "API key": lambda: refused(text, asked.wrongKey),
        "hang-up": hung_up,
        "silence": lambda: chatted_in_pieces(model=asked.held),
    },
)
