"""The command `llm`, with Chorus as one of its extra OpenAI models."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from driver import asked, serve

folder = Path(asked.folder) / "llm"
folder.mkdir()
(folder / "extra-openai-models.yaml").write_text(
    "".join(
        f"- model_id: {name}\n  model_name: {model}\n  api_base: {asked.url}\n  api_key_name: {key}\n{more}"
        for name, model, key, more in [
            ("chat", asked.model, "chorus", ""),
            ("text", asked.model, "chorus", "  completion: true\n"),
            ("held", asked.held, "chorus", ""),
            ("unknown", "nobody", "chorus", ""),
            ("stranger", asked.model, "wrong", ""),
        ]
    )
)
(folder / "keys.json").write_text(json.dumps({"chorus": asked.key, "wrong": asked.wrongKey}))
command = Path(sys.executable).with_name("llm")


def llm(*arguments):
    environment = {**os.environ, "LLM_USER_PATH": str(folder)}
    # What it finds on stdin it takes for a part of the prompt.
    return subprocess.run(
        [command, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment
    )


def asked_once(model, prompt, *arguments, temperature=0):
    options = {"temperature": temperature, "max_tokens": asked.maxTokens}
    given = [part for name, value in options.items() for part in ["-o", name, str(value)]]
    return llm("prompt", "-m", model, "-n", *given, *arguments, prompt)


def facts_of(of, *arguments, **change):
    model = "chat" if of == "chat" else "text"
    prompt = asked.message if of == "chat" else asked.prompt
    return read(of, asked_once(change.pop("model", model), change.pop("prompt", prompt), *arguments, **change))


def read(of, done):
    assert done.returncode == 0, done.stderr
    return {"of": of, "texts": [done.stdout.removesuffix("\n")]}


def refused(model, status):
    done = asked_once(model, asked.message)
    assert done.returncode != 0 and f"Error code: {status}" in done.stderr, (done.returncode, done.stderr)
    return {"status": status}


serve(
    version("llm"),
    {
        "chat": lambda: facts_of("chat", "--no-stream"),
        "completion": lambda: facts_of("completion", "--no-stream"),
        "streamed chat": lambda: facts_of("chat"),
        "streamed completion": lambda: facts_of("completion"),
        "seed": lambda: facts_of("chat", "-o", "seed", str(asked.seed), temperature=1),
        "stop": lambda: facts_of("chat", "-o", "stop", asked.stop.chat),
        "unknown model": lambda: refused("unknown", 404),
        "API key": lambda: refused("stranger", 401),
        "silence": lambda: facts_of("chat", model="held"),
    },
)
