"""IPEX says what plain PyTorch says. Run by tests/environments/ipex.sh, in an environment without the converter."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from edge.demo import CHECKPOINT
from runtime.backends.backend import Delta, Options, Request
from runtime.backends.torch.engine import Torch
from runtime.backends.torch.ipex import Ipex
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.errors import BackendError, DeviceError, Notice, RequestError
from runtime.events import Finish
from runtime.sampling import SamplingParams

STOPS = ("<|endoftext|>", "<|user|>", "<|observation|>")
QUESTIONS = ("Who are you?", "谢谢", "When do you open?")


def replies(engine):
    for question in QUESTIONS:
        prompt = f"[gMASK]<sop><|user|>\n{question}<|assistant|>"
        *deltas, finish = engine.generate(Request((prompt,), STOPS, SamplingParams(max_new_tokens=60)))
        assert isinstance(finish, Finish)
        yield "".join(delta.text for delta in deltas if isinstance(delta, Delta)), finish.usage.completion_tokens


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def load(precision=None):
    if not Ipex.devices():
        pytest.skip("IPEX is not installed here")
    with pytest.warns(Notice, match="last release"):
        return Ipex.load(Checkpoint.open(CHECKPOINT), "ipex", Options(threads=2, precision=precision))


@pytest.mark.ipex
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_ipex_says_what_torch_says(precision):
    ipex = load(precision)
    import torch

    if precision == "bf16" and torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("this CPU has no AVX512")
    other = Torch.load(Checkpoint.open(CHECKPOINT), "torch:cpu", Options(threads=2, precision=precision))
    assert ipex.model.dtype == other.model.dtype
    assert list(replies(ipex)) == list(replies(other))


@pytest.mark.ipex
def test_bf16_is_taken_where_the_cpu_computes_in_it():
    flags = Path("/proc/cpuinfo").read_text().split()
    ipex = load()
    import torch

    wanted = torch.bfloat16 if {"avx512_bf16", "amx_tile"} & set(flags) else torch.float32
    assert ipex.model.dtype == wanted


@pytest.mark.ipex
def test_a_layer_that_was_not_replaced_is_an_error(monkeypatch):
    if not Ipex.devices():
        pytest.skip("IPEX is not installed here")
    import intel_extension_for_pytorch

    monkeypatch.setattr(intel_extension_for_pytorch, "optimize", lambda model, **_: model)
    with pytest.raises(BackendError, match="replaced 0 of the model's 36 matrices"):
        Ipex.load(Checkpoint.open(CHECKPOINT), "ipex", Options(threads=2, precision="f32"))


def test_int8_is_refused():
    with pytest.raises(RequestError, match="IPEX runs f32 and bf16, not int8"):
        Ipex.load(Checkpoint.open(CHECKPOINT), "ipex", Options(precision="int8"))


def test_where_ipex_is_missing_it_is_said():
    if find_spec("intel_extension_for_pytorch") is not None:
        pytest.skip("IPEX is here")
    with pytest.raises(DeviceError, match="intel_extension_for_pytorch, which is not installed") as caught:
        Ipex.load(Checkpoint.open(CHECKPOINT), "ipex", Options())
    assert "[ipex]" in caught.value.hint
