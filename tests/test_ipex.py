"""IPEX says what plain PyTorch says. Run by tests/environments/ipex.sh, in an environment without the converter."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from runtime.backends.backend import Delta, Options, Request
from runtime.backends.ipex import Ipex
from runtime.backends.torch import Torch
from runtime.checkpoint_folder import CheckpointFolder
from runtime.errors import DeviceError, Notice
from runtime.messages import Finish
from runtime.sampling import Sampling

CHECKPOINT = Path(__file__).resolve().parents[1] / "edge" / "demo" / "checkpoint"
STOPS = ("<|endoftext|>", "<|user|>", "<|observation|>")
QUESTIONS = ("Who are you?", "谢谢", "When do you open?")


def replies(engine):
    for question in QUESTIONS:
        prompt = f"[gMASK]<sop><|user|>\n{question}<|assistant|>"
        *deltas, finish = engine.generate(Request((prompt,), STOPS, Sampling(max_new_tokens=60)))
        assert isinstance(finish, Finish)
        yield "".join(delta.text for delta in deltas if isinstance(delta, Delta)), finish.usage.completion_tokens


@pytest.mark.ipex
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_ipex_says_what_torch_says():
    if not Ipex.devices():
        pytest.skip("IPEX is not installed here")
    folder = CheckpointFolder.open(CHECKPOINT)
    options = Options(threads=2, precision="f32")
    with pytest.warns(Notice, match="last release"):
        ipex = Ipex.load(folder, "ipex", options)
    assert list(replies(ipex)) == list(replies(Torch.load(folder, "torch:cpu", options)))


def test_where_ipex_is_missing_it_is_said():
    if find_spec("intel_extension_for_pytorch") is not None:
        pytest.skip("IPEX is here")
    with pytest.raises(DeviceError, match="intel_extension_for_pytorch, which is not installed") as caught:
        Ipex.load(CheckpointFolder.open(CHECKPOINT), "ipex", Options())
    assert "glm4-edge[ipex]" in caught.value.hint
