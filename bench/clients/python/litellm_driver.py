"""litellm, with the provider that it has for servers that speak OpenAI's language."""

from importlib.metadata import version

import litellm
from driver import asked, messages, refused, serve, together

litellm.suppress_debug_info = True
where = {"api_base": asked.url, "api_key": asked.key, "max_retries": 0}
chat = {**where, "model": f"openai/{asked.model}", "messages": messages, "max_tokens": asked.maxTokens, "temperature": 0}
text = {
    **where,
    "model": f"text-completion-openai/{asked.model}",
    "prompt": asked.prompt,
    "max_tokens": asked.maxTokens,
    "temperature": 0,
}


def facts_of(answer, of, texts):
    usage = {"prompt": answer.usage.prompt_tokens, "completion": answer.usage.completion_tokens}
    return {"of": of, "texts": texts, "finish": [choice.finish_reason for choice in answer.choices], "usage": usage}


def completed(**change):
    answer = litellm.text_completion(**{**text, **change})
    return facts_of(answer, "completion", [choice.text for choice in answer.choices])


def chatted(**change):
    answer = litellm.completion(**{**chat, **change})
    return facts_of(answer, "chat", [choice.message.content for choice in answer.choices])


def completed_in_pieces(**change):
    chunks = list(litellm.text_completion(**{**text, **change}, stream=True))
    pieces = [choice.text for chunk in chunks for choice in chunk.choices if choice.text]
    return {"of": "completion", "texts": ["".join(pieces)], "pieces": len(pieces)}


def chatted_in_pieces(**change):
    chunks = list(litellm.completion(**{**chat, **change}, stream=True))
    pieces = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    usages = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
    counted = [{"prompt": usage.prompt_tokens, "completion": usage.completion_tokens} for usage in usages]
    return {"of": "chat", "texts": ["".join(pieces)], "pieces": len(pieces), **({"usage": counted[-1]} if counted else {})}


def log_probabilities():
    answer = litellm.completion(**chat, logprobs=True, top_logprobs=1)
    return {"of": "chat", "logprobs": [entry.logprob for entry in answer.choices[0].logprobs.content]}


serve(
    version("litellm"),
    {
        "completion": completed,
        "chat": chatted,
        "streamed completion": completed_in_pieces,
        "streamed chat": chatted_in_pieces,
        "streamed usage": lambda: chatted_in_pieces(stream_options={"include_usage": True}),
        "stop": lambda: chatted(stop=[asked.stop.chat]),
        "seed": lambda: chatted(temperature=1, seed=asked.seed),
        "n": lambda: chatted(temperature=1, seed=asked.seed, n=2),
        "penalties": lambda: chatted(
            presence_penalty=asked.penalties.presence, frequency_penalty=asked.penalties.frequency
        ),
        "chat's log-probabilities": log_probabilities,
        "characters": lambda: completed_in_pieces(prompt=asked.accents),
        "eight at once": lambda: {
            "of": "chat",
            "texts": together(lambda seed: chatted(temperature=1, seed=seed)["texts"][0]),
        },
        "bad field": lambda: refused(litellm.BadRequestError, lambda: chatted(top_p=9)),
        "unknown model": lambda: refused(litellm.NotFoundError, lambda: chatted(model="openai/nobody")),
        "API key": lambda: refused(litellm.AuthenticationError, lambda: chatted(api_key=asked.wrongKey)),
        "silence": lambda: chatted_in_pieces(model=f"openai/{asked.held}"),
    },
)
