"""httpx-sse: server-sent events by the standard, each of which has to hold JSON."""

from importlib.metadata import version

import httpx
from driver import asked, messages, serve
from httpx_sse import connect_sse

client = httpx.Client(headers={"authorization": f"Bearer {asked.key}"}, timeout=600)
text = {"model": asked.model, "prompt": asked.prompt, "max_tokens": asked.maxTokens, "temperature": 0, "stream": True}
chat = {"model": asked.model, "messages": messages, "max_tokens": asked.maxTokens, "temperature": 0, "stream": True}


def events(path, body):
    with connect_sse(client, "POST", f"{asked.url}/{path}", json=body) as source:
        all_events = list(source.iter_sse())
    assert all_events[-1].data == "[DONE]", all_events[-1]
    return [event.json() for event in all_events[:-1]]


def completed_in_pieces(**change):
    data = events("completions", {**text, **change})
    pieces = [choice["text"] for one in data for choice in one["choices"] if choice["text"]]
    return {"of": "completion", "texts": ["".join(pieces)], "pieces": len(pieces)}


def chatted_in_pieces(**change):
    data = events("chat/completions", {**chat, **change})
    deltas = [choice["delta"].get("content") for one in data for choice in one["choices"]]
    pieces = [delta for delta in deltas if delta]
    return {"of": "chat", "texts": ["".join(pieces)], "pieces": len(pieces)}


def hung_up():
    body = {**chat, "model": asked.held}
    with connect_sse(client, "POST", f"{asked.url}/chat/completions", json=body) as source:
        next(source.iter_sse())
    return {}


serve(
    version("httpx-sse"),
    {
        "streamed completion": completed_in_pieces,
        "streamed chat": chatted_in_pieces,
        "characters": lambda: completed_in_pieces(prompt=asked.accents),
        "hang-up": hung_up,
        "silence": lambda: chatted_in_pieces(model=asked.held),
    },
)
