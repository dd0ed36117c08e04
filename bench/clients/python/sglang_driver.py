"""SGLang's bench_serving, the last release of it that is one module and needs no torch: its own run_benchmark, whose
requests are those of a file, and its request functions."""

import asyncio
import importlib.util
import os
from importlib.metadata import distribution, version
from pathlib import Path
from types import SimpleNamespace

from driver import asked, serve

spec = importlib.util.spec_from_file_location(
    "bench_serving", distribution("sglang").locate_file("sglang/bench_serving.py")
)
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)

os.environ["OPENAI_API_KEY"] = asked.key
FUNCTIONS = {
    "completion": (bench.async_request_openai_completions, "completions"),
    "chat": (bench.async_request_openai_chat_completions, "chat/completions"),
}
bench.set_global_args(SimpleNamespace(disable_stream=False, disable_ignore_eos=False, print_requests=False))


def request(of, prompt, model, body):
    _, path = FUNCTIONS[of]
    return bench.RequestFuncInput(
        prompt=prompt,
        api_url=f"{asked.url}/{path}",
        prompt_len=0,
        output_len=asked.maxTokens,
        model=model,
        lora_name="",
        image_data=None,
        extra_request_body=body,
    )


async def read(of, requests):
    function, _ = FUNCTIONS[of]
    return await asyncio.gather(*[function(one) for one in requests])


def facts_of(of, outputs):
    for output in outputs:
        assert output.success, output.error
    return {"of": of, "texts": [output.generated_text for output in outputs], "pieces": len(outputs[0].itl) + 1}


def asked_once(of, prompt, model=asked.model, body={"ignore_eos": False}):
    return facts_of(of, asyncio.run(read(of, [request(of, prompt, model, body)])))


def eight():
    requests = [request("completion", asked.prompt, asked.model, sampled(seed)) for seed in asked.seeds]
    return facts_of("completion", asyncio.run(read("completion", requests)))


def sampled(seed):
    return {"temperature": 1, "seed": seed, "ignore_eos": False}


def counted():
    """A whole run: as many tokens as it asks for, of eight requests at a time."""
    file = Path(asked.folder) / "sglang.jsonl"
    parser_defaults = {
        "backend": "sglang-oai",
        "base_url": asked.url.removesuffix("/v1"),
        "model": asked.model,
        "tokenizer": asked.tokenizer,
        "dataset_name": "random-ids",
        "dataset_path": "",
        "num_prompts": 8,
        "random_input_len": 16,
        "random_output_len": asked.maxTokens,
        "random_range_ratio": 1.0,
        "max_concurrency": 8,
        "request_rate": float("inf"),
        "output_file": str(file),
        "seed": 1,
        "disable_tqdm": True,
    }
    absent = dict.fromkeys(
        "host port extra_request_body lora_name profile pd_separated apply_chat_template tokenize_prompt flush_cache"
        " disable_stream disable_ignore_eos return_logprob return_routed_experts sharegpt_output_len".split()
    )
    lora = {"lora_request_distribution": "uniform", "lora_zipf_alpha": 1.5}
    found = bench.run_benchmark(SimpleNamespace(**{**absent, **lora, **parser_defaults}))
    assert found["completed"] == 8, found
    return {"of": "completion", "counted": found["total_output_tokens"]}


serve(
    version("sglang"),
    {
        "streamed completion": lambda: asked_once("completion", asked.prompt),
        "streamed chat": lambda: asked_once("chat", asked.message),
        "reader's counts": counted,
        "characters": lambda: asked_once("completion", asked.accents),
        "eight at once": eight,
        "silence": lambda: asked_once("chat", asked.message, asked.held),
    },
)
