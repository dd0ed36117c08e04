"""lm-evaluation-harness with its models for servers: whole evaluations of tasks of our own, so that no data set is fetched."""

import json
import os
from importlib.metadata import version
from pathlib import Path

from driver import asked, serve

folder = Path(asked.folder) / "lm_eval"
folder.mkdir()
# Read when the library is loaded.
os.environ.update(HF_HUB_OFFLINE="1", HF_HOME=str(folder / "hub"), OPENAI_API_KEY=asked.key)

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager


def task(name, documents, settings):
    data = folder / f"{name}.json"
    data.write_text("\n".join(json.dumps(document) for document in documents))
    common = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "target_delimiter": "",
    }
    return {**common, **settings}


def evaluated(model, path, task, tokenizer, **options):
    where = {"base_url": f"{asked.url}/{path}", "model": asked.model, "num_concurrent": 1, "max_retries": 1, **tokenizer}
    found = simple_evaluate(
        model=model,
        model_args=where,
        tasks=[task],
        task_manager=TaskManager(include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
        **options,
    )
    (samples,) = found["samples"].values()
    return [sample["filtered_resps"] if task["output_type"] == "generate_until" else sample["resps"] for sample in samples]


TOKENIZER = {"tokenizer_backend": "huggingface", "tokenizer": asked.tokenizer}
generating = {
    "output_type": "generate_until",
    "generation_kwargs": {"max_gen_toks": asked.maxTokens, "temperature": 0, "do_sample": False, "until": ["\0"]},
    "metric_list": [{"metric": "exact_match"}],
}
likely = {"output_type": "loglikelihood", "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}]}


def log_likelihood():
    question = [{"question": asked.statement, "answer": asked.continuation}]
    (((log_probability, greedy),),) = evaluated(
        "local-completions", "completions", task("likely", question, likely), TOKENIZER
    )[0]
    return {"of": "completion", "sum": float(log_probability), "greedy": greedy == True or greedy == "True"}


def completed():
    question = [{"question": asked.prompt, "answer": ""}]
    answers = evaluated("local-completions", "completions", task("completed", question, generating), TOKENIZER)
    return {"of": "completion", "texts": answers[0]}


def chatted():
    question = [{"question": asked.message, "answer": ""}]
    answers = evaluated(
        "local-chat-completions", "chat/completions", task("chatted", question, generating), {}, apply_chat_template=True
    )
    return {"of": "chat", "texts": answers[0]}


serve(version("lm_eval"), {"completion": completed, "chat": chatted, "log-likelihood": log_likelihood})
