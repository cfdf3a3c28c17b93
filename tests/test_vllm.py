"""vLLM, a real one on the CPU, says what our own engine says. Run by tests/environments/vllm.sh."""

import json
import os
import re
import shutil

import pytest

from edge.demo import CHECKPOINT
from edge.export import export_template
from runtime.backends.backend import Delta, Options, Request
from runtime.backends.remote.engine import Remote
from runtime.backends.torch.engine import Torch
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.events import Finish
from runtime.grammar.grammar import Choice, JsonObject, Regex
from runtime.sampling import SamplingParams

from .serving import serving

STOPS = ("<|endoftext|>", "<|user|>", "<|observation|>")
QUESTION = "[gMASK]<sop><|user|>\nWho are you?<|assistant|>"


def said(engine, *pieces, grammar=None):
    *deltas, finish = engine.generate(Request(pieces, STOPS, SamplingParams(max_new_tokens=40), grammar))
    assert isinstance(finish, Finish)
    assert sum(delta.tokens for delta in deltas) == finish.usage.completion_tokens
    return "".join(delta.text for delta in deltas if isinstance(delta, Delta)), finish.reason


@pytest.mark.vllm
def test_vllm_says_what_torch_says_and_holds_grammars(tmp_path):
    python = os.environ.get("EDGE_TEST_VLLM")
    if not python:
        pytest.skip("EDGE_TEST_VLLM names no Python with vLLM")
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(CHECKPOINT, checkpoint)
    export_template(checkpoint)
    folder = Checkpoint.open(checkpoint)
    torch = Torch.load(folder, "torch:cpu", Options(threads=1, precision="f32"))
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint), "--dtype", "float32"]
    small = ["--gpu-memory-utilization", "0.2", "--enforce-eager"]  # of the CPU's memory
    tools = ["--enable-auto-tool-choice", "--tool-call-parser", "hf"]
    with serving([*command, *small, *tools], tmp_path / "log", seconds=1200) as url:
        vllm = Remote.load(folder, url, Options())
        typed = (*QUESTION.partition("?")[:1], "<", "|user|> ?<|assistant|>")
        assert [said(vllm, QUESTION), said(vllm, *typed)] == [said(torch, QUESTION), said(torch, *typed)]
        assert said(vllm, QUESTION, grammar=Choice(("yes", "no")))[0] in ("yes", "no")
        assert re.fullmatch("[0-9]{3}", said(vllm, QUESTION, grammar=Regex("[0-9]{3}"))[0])
        text, reason = said(vllm, QUESTION, grammar=JsonObject())
        assert reason == "length" or isinstance(json.loads(text), dict)
