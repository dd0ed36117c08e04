"""OpenAI's official client for Python."""

import openai
from driver import asked, messages, refused, serve, together

client = openai.OpenAI(base_url=asked.url, api_key=asked.key, max_retries=0)
text = {"model": asked.model, "prompt": asked.prompt, "max_tokens": asked.maxTokens, "temperature": 0}
chat = {"model": asked.model, "messages": messages, "max_tokens": asked.maxTokens, "temperature": 0}
sampled = {"temperature": 1, "seed": asked.seed}


def usage_of(answer):
    return {"prompt": answer.usage.prompt_tokens, "completion": answer.usage.completion_tokens}


def completed(**change):
    answer = client.completions.create(**{**text, **change})
    return {
        "of": "completion",
        "texts": [choice.text for choice in answer.choices],
        "finish": [choice.finish_reason for choice in answer.choices],
        "usage": usage_of(answer),
    }


def chatted(**change):
    answer = client.chat.completions.create(**{**chat, **change})
    return {
        "of": "chat",
        "texts": [choice.message.content for choice in answer.choices],
        "finish": [choice.finish_reason for choice in answer.choices],
        "usage": usage_of(answer),
    }


def completed_in_pieces(**change):
    chunks = list(client.completions.create(**{**text, **change}, stream=True))
    pieces = [choice.text for chunk in chunks for choice in chunk.choices if choice.text]
    return {"of": "completion", "texts": ["".join(pieces)], "pieces": len(pieces)}, chunks


def chatted_in_pieces(**change):
    chunks = list(client.chat.completions.create(**{**chat, **change}, stream=True))
    pieces = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    return {"of": "chat", "texts": ["".join(pieces)], "pieces": len(pieces)}, chunks


def streamed_usage():
    facts, chunks = chatted_in_pieces(stream_options={"include_usage": True})
    return {**facts, "usage": usage_of(chunks[-1])}


def log_probabilities():
    answer = client.completions.create(**text, logprobs=1)
    return {"of": "completion", "logprobs": answer.choices[0].logprobs.token_logprobs}


def chat_log_probabilities():
    answer = client.chat.completions.create(**chat, logprobs=True, top_logprobs=1)
    return {"of": "chat", "logprobs": [entry.logprob for entry in answer.choices[0].logprobs.content]}


def echoed():
    answer = client.completions.create(**text, echo=True, logprobs=1)
    return {"of": "completion", "texts": [answer.choices[0].text], "logprobs": answer.choices[0].logprobs.token_logprobs}


def hung_up():
    stream = client.chat.completions.create(**{**chat, "model": asked.held}, stream=True)
    next(iter(stream))
    stream.close()
    return {}


def wrong_key():
    stranger = openai.OpenAI(base_url=asked.url, api_key=asked.wrongKey, max_retries=0)
    return refused(openai.AuthenticationError, stranger.models.list)


serve(
    openai.__version__,
    {
        "models": lambda: {"models": [model.id for model in client.models.list()]},
        "completion": completed,
        "chat": chatted,
        "streamed completion": lambda: completed_in_pieces()[0],
        "streamed chat": lambda: chatted_in_pieces()[0],
        "streamed usage": streamed_usage,
        "stop": lambda: chatted(stop=asked.stop.chat),
        "seed": lambda: chatted(**sampled),
        "n": lambda: chatted(**sampled, n=2),
        "penalties": lambda: chatted(
            presence_penalty=asked.penalties.presence, frequency_penalty=asked.penalties.frequency
        ),
        "log-probabilities": log_probabilities,
        "chat's log-probabilities": chat_log_probabilities,
        "echo": echoed,
        "characters": lambda: completed_in_pieces(prompt=asked.accents)[0],
        "eight at once": lambda: {
            "of": "chat",
            "texts": together(lambda seed: chatted(temperature=1, seed=seed)["texts"][0]),
        },
        "bad field": lambda: refused(openai.BadRequestError, lambda: chatted(top_p=9), lambda error: error.param),
        "unknown model": lambda: refused(openai.NotFoundError, lambda: chatted(model="nobody")),
        "API key": wrong_key,
        "hang-up": hung_up,
        "silence": lambda: chatted_in_pieces(model=asked.held)[0],
        "silence with ids": lambda: chatted_in_pieces(model=asked.held, extra_headers={"X-Chorus-Resume": "30"})[0],
    },
)
