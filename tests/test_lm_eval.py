"""lm-evaluation-harness measures a model over our server. Run by tests/environments/lm_eval.sh."""

import json
import os
import subprocess

import pytest

from edge.demo import CHECKPOINT
from runtime.model import Model
from runtime.reply.reply import Reply

from .serving import serving_ours

CHOICES = [
    {"question": "The weather in", "choices": [" Oslo", " the kiosk", " 2, 3"], "answer": 0},
    {"question": "[1, 2, 3, ", "choices": ["4]", "Oslo", "the toilets"], "answer": 1},
    {"question": "I am a tiny test", "choices": [" model of glm4-edge.", " installation."], "answer": 0},
]
TASKS = {
    "edge_choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    },
    "edge_continue": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{choices[0]}}",
        "generation_kwargs": {"until": ["]"], "max_gen_toks": 8},
        "metric_list": [{"metric": "exact_match"}],
    },
    "edge_chat": {
        "output_type": "generate_until",
        "doc_to_text": "Who are you?",
        "doc_to_target": "I am a tiny test model of glm4-edge",
        "generation_kwargs": {"until": ["."], "max_gen_toks": 40},
        "metric_list": [{"metric": "exact_match"}],
    },
}


def evaluate(python, folder, tasks, model, url, *flags):
    """The results of the tasks, and what was asked and answered for each document."""
    arguments = f"model=model,base_url={url},tokenizer={CHECKPOINT},num_concurrent=2,max_length=512"
    command = [python, "-m", "lm_eval", "--model", model, "--model_args", arguments, "--tasks", ",".join(tasks)]
    command += ["--include_path", str(folder), "--output_path", str(folder / "out"), "--log_samples", *flags]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub"), "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | offline, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(max((folder / "out").rglob("results_*.json")).read_text())["results"]
    files = {task: max((folder / "out").rglob(f"samples_{task}_*.jsonl")) for task in tasks}
    samples = {task: list(map(json.loads, file.read_text().splitlines())) for task, file in files.items()}
    return results, samples


@pytest.mark.lm_eval
def test_its_log_likelihoods_are_the_models_own(demo_folder, tmp_path):
    python = os.environ.get("EDGE_TEST_LM_EVAL")
    if not python:
        pytest.skip("EDGE_TEST_LM_EVAL names no Python with lm_eval")
    data = tmp_path / "choices.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in CHOICES))
    for name, task in TASKS.items():
        source = {"task": name, "dataset_path": "json", "test_split": "test"}
        files = {"dataset_kwargs": {"data_files": {"test": str(data)}}}
        (tmp_path / f"{name}.yaml").write_text(json.dumps(source | files | task))  # JSON is YAML
    with serving_ours(demo_folder.path) as (url, _), Model(demo_folder, device="CPU") as model:
        completions = f"{url}/v1/completions"
        results, samples = evaluate(
            python, tmp_path, ("edge_choice", "edge_continue"), "local-completions", completions, "--batch_size", "4"
        )
        right = 0
        for sample in samples["edge_choice"]:
            doc, sums = sample["doc"], []
            for choice, ((found, is_greedy),) in zip(doc["choices"], sample["resps"], strict=True):
                context = len(model.backend.encode((doc["question"].rstrip(),)))  # blanks go to the choice
                ids = model.backend.encode((doc["question"] + choice,))
                reply = Reply.from_events(model.complete(ids, prompt_logprobs=True, top_logprobs=1, max_tokens=0))
                tokens = reply.prompt_logprobs[context:]
                sums.append(sum(token.logprob for token in tokens))
                assert float(found) == pytest.approx(sums[-1], abs=0.02)
                assert (str(is_greedy) == "True") == all(token.id == token.top[0].id for token in tokens)
            right += sums.index(max(sums)) == doc["answer"]
        assert results["edge_choice"]["acc,none"] == pytest.approx(right / len(CHOICES))
        for sample in samples["edge_continue"]:
            ids = model.backend.encode((sample["doc"]["question"],))
            wanted = Reply.from_events(model.complete(ids, max_tokens=8, temperature=0, stop="]")).text
            assert sample["resps"] == [[wanted]]
        results, _ = evaluate(
            python, tmp_path, ("edge_chat",), "local-chat-completions", f"{url}/v1/chat/completions",
            "--apply_chat_template",
        )  # fmt: skip
        assert results["edge_chat"]["exact_match,none"] == 1.0
