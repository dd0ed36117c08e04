"""LangChain's models for OpenAI: ChatOpenAI and OpenAI."""

from importlib.metadata import version

import openai
from driver import asked, messages, refused, serve
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableParallel
from langchain_openai import ChatOpenAI, OpenAI

where = {"base_url": asked.url, "api_key": asked.key, "max_retries": 0}


def chat(**change):
    return ChatOpenAI(
        **{**where, "model": asked.model, "max_tokens": asked.maxTokens, "temperature": 0, **change}
    )


def text(**change):
    return OpenAI(**{**where, "model": asked.model, "max_tokens": asked.maxTokens, "temperature": 0, **change})


def usage_of(answer):
    return {"prompt": answer.usage_metadata["input_tokens"], "completion": answer.usage_metadata["output_tokens"]}


def chatted(**change):
    answer = chat(**change).invoke(messages)
    finish = [answer.response_metadata["finish_reason"]]
    return {"of": "chat", "texts": [answer.content], "finish": finish, "usage": usage_of(answer)}


def chatted_in_pieces(**change):
    chunks = list(chat(**change).stream(messages))
    pieces = [chunk.content for chunk in chunks if chunk.content]
    counted = [usage_of(chunk) for chunk in chunks if chunk.usage_metadata]
    return {"of": "chat", "texts": ["".join(pieces)], "pieces": len(pieces), **({"usage": counted[-1]} if counted else {})}


def completed_in_pieces(prompt=asked.prompt):
    pieces = [piece for piece in text().stream(prompt) if piece]
    return {"of": "completion", "texts": ["".join(pieces)], "pieces": len(pieces)}


def two_choices():
    (choices,) = chat(temperature=1, seed=asked.seed, n=2).generate([[HumanMessage(asked.message)]]).generations
    return {"of": "chat", "texts": [choice.text for choice in choices]}


def log_probabilities():
    answer = chat(logprobs=True, top_logprobs=1).invoke(messages)
    return {"of": "chat", "logprobs": [entry["logprob"] for entry in answer.response_metadata["logprobs"]["content"]]}


def eight_at_once():
    models = [chat(temperature=1, seed=seed) for seed in asked.seeds]
    answers = RunnableParallel({str(i): model for i, model in enumerate(models)}).invoke(messages)
    return {"of": "chat", "texts": [answers[str(i)].content for i in range(len(models))]}


def hung_up():
    stream = chat(model=asked.held).stream(messages)
    next(stream)
    stream.close()
    return {}


serve(
    version("langchain-openai"),
    {
        "completion": lambda: {"of": "completion", "texts": [text().invoke(asked.prompt)]},
        "chat": chatted,
        "streamed completion": completed_in_pieces,
        "streamed chat": chatted_in_pieces,
        "streamed usage": lambda: chatted_in_pieces(stream_usage=True),
        "stop": lambda: chatted(stop=[asked.stop.chat]),
        "seed": lambda: chatted(temperature=1, seed=asked.seed),
        "n": two_choices,
        "penalties": lambda: chatted(
            presence_penalty=asked.penalties.presence, frequency_penalty=asked.penalties.frequency
        ),
        "chat's log-probabilities": log_probabilities,
        "characters": lambda: completed_in_pieces(asked.accents),
        "eight at once": eight_at_once,
        "bad field": lambda: refused(openai.BadRequestError, lambda: chatted(top_p=9), lambda error: error.param),
        "unknown model": lambda: refused(openai.NotFoundError, lambda: chatted(model="nobody")),
        "API key": lambda: refused(openai.AuthenticationError, lambda: chatted(api_key=asked.wrongKey)),
        "hang-up": hung_up,
        "silence": lambda: chatted_in_pieces(model=asked.held),
    },
)
