"""vLLM's serving benchmark: its request functions, in the module that its release has, loaded from the file alone."""

import asyncio
import importlib.util
import os

import aiohttp
from driver import asked, serve

os.environ["OPENAI_API_KEY"] = asked.key
spec = importlib.util.spec_from_file_location("endpoint_request_func", asked.vllm.module)
reader = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reader)


async def read(function, path, prompts, **change):
    async with aiohttp.ClientSession(trust_env=True, timeout=reader.AIOHTTP_TIMEOUT) as session:
        common = {"api_url": f"{asked.url}/{path}", "prompt_len": 0, "output_len": asked.maxTokens, "model": asked.model}
        inputs = [reader.RequestFuncInput(prompt=prompt, **{**common, **change}) for prompt in prompts]
        return await asyncio.gather(*[function(one, session) for one in inputs])


def facts_of(outputs, of):
    for output in outputs:
        assert output.success, output.error
    first = outputs[0]
    usage = {"prompt": first.prompt_len, "completion": first.output_tokens}
    return {"of": of, "texts": [output.generated_text for output in outputs], "pieces": len(first.itl) + 1, "usage": usage}


def completed(prompts=[asked.prompt], **change):
    outputs = read(reader.async_request_openai_completions, "completions", prompts, **settings(change))
    return facts_of(asyncio.run(outputs), "completion")


def chatted(**change):
    function = reader.async_request_openai_chat_completions
    return facts_of(asyncio.run(read(function, "chat/completions", [asked.message], **settings(change))), "chat")


def settings(change, temperature=0):
    return {"extra_body": {"temperature": temperature}, **change}


async def eight():
    function = reader.async_request_openai_completions
    ask = lambda seed: read(function, "completions", [asked.prompt], extra_body={"temperature": 1, "seed": seed})
    return [outputs for (outputs,) in await asyncio.gather(*[ask(seed) for seed in asked.seeds])]


serve(
    asked.vllm.version,
    {
        "streamed completion": completed,
        "streamed chat": chatted,
        "streamed usage": chatted,
        "reader's counts": lambda: completed(ignore_eos=True),
        "characters": lambda: completed([asked.accents]),
        "eight at once": lambda: facts_of(asyncio.run(eight()), "completion"),
        "silence": lambda: chatted(model=asked.held),
    },
)
