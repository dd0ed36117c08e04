"""requests, as people use it without a client: lines of text, in whatever charset the answer's headers say."""

import json

import requests
from driver import asked, messages, serve, together

session = requests.Session()
session.headers["authorization"] = f"Bearer {asked.key}"
text = {"model": asked.model, "prompt": asked.prompt, "max_tokens": asked.maxTokens, "temperature": 0}
chat = {"model": asked.model, "messages": messages, "max_tokens": asked.maxTokens, "temperature": 0}


def post(path, body, **options):
    return session.post(f"{asked.url}/{path}", json=body, **options)


def lines(path, body):
    with post(path, {**body, "stream": True}, stream=True) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines(decode_unicode=True):
            if line.startswith("data: ") and line != "data: [DONE]":
                yield json.loads(line.removeprefix("data: "))


def completed(**change):
    answer = post("completions", {**text, **change}).json()
    return {"of": "completion", "texts": [choice["text"] for choice in answer["choices"]]}


def completed_in_pieces(**change):
    pieces = [choice["text"] for data in lines("completions", {**text, **change}) for choice in data["choices"]]
    return {"of": "completion", "texts": ["".join(pieces)], "pieces": len(pieces)}


def chatted_in_pieces(**change):
    deltas = [choice["delta"] for data in lines("chat/completions", {**chat, **change}) for choice in data["choices"]]
    pieces = [delta["content"] for delta in deltas if delta.get("content")]
    return {"of": "chat", "texts": ["".join(pieces)], "pieces": len(pieces)}


def refused(path, body, **options):
    answer = post(path, body, **options)
    return {"status": answer.status_code, "param": answer.json()["error"]["param"]}


def hung_up():
    with post("chat/completions", {**chat, "model": asked.held, "stream": True}, stream=True) as answer:
        next(answer.iter_lines())
    return {}


serve(
    requests.__version__,
    {
        "models": lambda: {"models": [model["id"] for model in session.get(f"{asked.url}/models").json()["data"]]},
        "completion": completed,
        "streamed completion": completed_in_pieces,
        "streamed chat": chatted_in_pieces,
        "characters": lambda: completed_in_pieces(prompt=asked.accents),
        "eight at once": lambda: {
            "of": "completion",
            "texts": together(lambda seed: completed(temperature=1, seed=seed)["texts"][0]),
        },
        "bad field": lambda: refused("completions", {**text, "top_p": 9}),
        "unknown model": lambda: refused("completions", {**text, "model": "nobody"}),
        "API key": lambda: refused("completions", text, headers={"authorization": f"Bearer {asked.wrongKey}"}),
        "hang-up": hung_up,
        "silence": lambda: chatted_in_pieces(model=asked.held),
    },
)
