"""instructor, for plain chat: without a response model it hands the request on to OpenAI's client."""

from importlib.metadata import version

import instructor
import openai
from driver import asked, messages, refused, serve

client = instructor.from_openai(openai.OpenAI(base_url=asked.url, api_key=asked.key, max_retries=0))
chat = {"model": asked.model, "messages": messages, "max_tokens": asked.maxTokens, "temperature": 0}


def chatted(**change):
    answer = client.chat.completions.create(response_model=None, **{**chat, **change})
    return {
        "of": "chat",
        "texts": [choice.message.content for choice in answer.choices],
        "finish": [choice.finish_reason for choice in answer.choices],
        "usage": {"prompt": answer.usage.prompt_tokens, "completion": answer.usage.completion_tokens},
    }


serve(
    version("instructor"),
    {
        "chat": chatted,
        "stop": lambda: chatted(stop=asked.stop.chat),
        "seed": lambda: chatted(temperature=1, seed=asked.seed),
        "unknown model": lambda: refused(openai.NotFoundError, lambda: chatted(model="nobody")),
    },
)
