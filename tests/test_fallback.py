"""`fallback`: tried in order where a device cannot load, never without a word."""

import pytest

from edge.demo import CHECKPOINT
from runtime.backends.echo import Echo
from runtime.chat import Chat
from runtime.errors import BackendError, CheckpointError, DeviceError, Notice
from runtime.model import Model


def test_the_first_that_loads_is_taken_and_it_is_said(bare_folder):
    with pytest.warns(Notice) as said:
        chat = Chat(bare_folder, device="GPU.9", fallback=("torch:cpu", "echo", "GPU.8"))
    assert isinstance(chat.model.backend, Echo)
    first, second = (str(notice.message) for notice in said)
    assert "GPU.9 cannot be used" in first
    assert "torch:cpu is tried instead" in first
    assert "torch:cpu cannot be used" in second
    assert {notice.filename for notice in said} == {__file__}


def test_nothing_is_said_where_the_device_loads(bare_folder):
    assert isinstance(Model(bare_folder, device="echo", fallback=("CPU",)).backend, Echo)


def test_the_last_error_is_raised(bare_folder):
    with pytest.warns(Notice, match=r"GPU\.9"), pytest.raises(DeviceError, match=r"GPU\.8"):
        Model(bare_folder, device="GPU.9", fallback=["GPU.8"])


def test_a_reply_that_fails_is_not_tried_elsewhere(bare_folder):
    class Failing(Echo):
        def generate(self, request):
            raise BackendError("it broke", hint="mend it")
            yield

    with pytest.raises(BackendError, match="it broke"):
        Chat(Model(bare_folder, fallback=("echo",), backend=Failing())).send("Hi")


def test_a_checkpoint_that_is_none_is_not_the_device_s_fault(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama", "architectures": ["Llama"]}')
    with pytest.raises(CheckpointError, match="is not supported"):
        Model(tmp_path, device="torch", fallback=("echo",))


def test_openvino_says_what_to_do_with_a_checkpoint():
    with pytest.raises(BackendError, match="is a checkpoint") as caught:
        Model(CHECKPOINT, device="CPU")
    assert "edge convert" in caught.value.hint
