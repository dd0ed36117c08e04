"""LlamaIndex' model for servers that speak OpenAI's language: OpenAILike."""

from importlib.metadata import version

import openai
from driver import asked, refused, serve, together
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

messages = [ChatMessage(role="user", content=asked.message)]


def model(**change):
    defaults = {
        "model": asked.model,
        "api_base": asked.url,
        "api_key": asked.key,
        "max_tokens": asked.maxTokens,
        "temperature": 0,
        "max_retries": 0,
        "is_chat_model": True,
        "context_window": 512,
    }
    return OpenAILike(**{**defaults, **change})


def completed():
    answer = model(is_chat_model=False).complete(asked.prompt)
    return {"of": "completion", "texts": [answer.text]}


def chatted(more={}, **change):
    answer = model(**change).chat(messages, **more)
    usage = {"prompt": answer.raw.usage.prompt_tokens, "completion": answer.raw.usage.completion_tokens}
    return {"of": "chat", "texts": [answer.message.content], "usage": usage}


def completed_in_pieces(prompt=asked.prompt):
    pieces = [chunk.delta for chunk in model(is_chat_model=False).stream_complete(prompt) if chunk.delta]
    return {"of": "completion", "texts": ["".join(pieces)], "pieces": len(pieces)}


def chatted_in_pieces(**change):
    pieces = [chunk.delta for chunk in model(**change).stream_chat(messages) if chunk.delta]
    return {"of": "chat", "texts": ["".join(pieces)], "pieces": len(pieces)}


def streamed_usage():
    chunks = list(model().stream_chat(messages, stream_options={"include_usage": True}))
    usage = chunks[-1].raw.usage
    counted = {"prompt": usage.prompt_tokens, "completion": usage.completion_tokens}
    return {"of": "chat", "texts": [chunks[-1].message.content], "usage": counted}


def log_probabilities():
    answer = model(logprobs=True, top_logprobs=1).chat(messages)
    return {"of": "chat", "logprobs": [entry.logprob for (entry,) in answer.logprobs]}


serve(
    version("llama-index-llms-openai-like"),
    {
        "completion": completed,
        "chat": chatted,
        "streamed completion": completed_in_pieces,
        "streamed chat": chatted_in_pieces,
        "streamed usage": streamed_usage,
        "stop": lambda: chatted({"stop": [asked.stop.chat]}),
        "seed": lambda: chatted({"seed": asked.seed}, temperature=1),
        "penalties": lambda: chatted(
            {"presence_penalty": asked.penalties.presence, "frequency_penalty": asked.penalties.frequency}
        ),
        "chat's log-probabilities": log_probabilities,
        "characters": lambda: completed_in_pieces(asked.accents),
        "eight at once": lambda: {
            "of": "chat",
            "texts": together(lambda seed: chatted({"seed": seed}, temperature=1)["texts"][0]),
        },
        "bad field": lambda: refused(openai.BadRequestError, lambda: chatted({"top_p": 9}), lambda error: error.param),
        "unknown model": lambda: refused(openai.NotFoundError, lambda: chatted(model="nobody")),
        "API key": lambda: refused(openai.AuthenticationError, lambda: chatted(api_key=asked.wrongKey)),
        "silence": lambda: chatted_in_pieces(model=asked.held),
    },
)
