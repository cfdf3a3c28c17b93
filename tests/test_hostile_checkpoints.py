"""What comes with a checkpoint is refused in a line where it is damaged or leads elsewhere: no traceback, no hang."""

import base64
import json
import os
import shutil
from hashlib import sha256

import pytest

from convert.job import copy_text_files
from convert.output.journal import Journal
from convert.pipeline import convert
from edge.demo import CHECKPOINT
from edge.server.page.kiosk import Kiosk
from runtime.backends.echo import Echo
from runtime.chat import Chat
from runtime.checkpoint.checkpoint import Checkpoint
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.errors import CheckpointError, EdgeError, RequestError
from runtime.model import Model

from .checkpoints import Tiny
from .ggufs import write_gguf

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture
def checkpoint(tmp_path):
    return shutil.copytree(CHECKPOINT, tmp_path / "checkpoint")


def edit(name, change):
    def apply(folder):
        path = folder / name
        data = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        change(data)
        path.write_text(json.dumps(data), encoding="utf-8")

    return apply


def text(name, old, new):
    def apply(folder):
        found = (folder / name).read_text(encoding="utf-8")
        assert old in found
        (folder / name).write_text(found.replace(old, new), encoding="utf-8")

    return apply


def write(name, content):
    return lambda folder: (folder / name).write_text(content, encoding="utf-8")


def same_ids(data):
    data["added_tokens"][1]["id"] = data["added_tokens"][0]["id"]


def same_ids_in_the_vocabulary(data):
    first, second, *_ = data["model"]["vocab"]
    data["model"]["vocab"][second] = data["model"]["vocab"][first]


def huge_rank(folder):
    (folder / "tokenizer.json").unlink()
    lines = [f"{base64.b64encode(bytes([byte])).decode()} {byte}" for byte in range(255)]
    (folder / "tokenizer.model").write_text("\n".join([*lines, f"/w== {10**20}"]))


DAMAGED = {
    "a renamed role": (text("tokenizer.json", "<|user|>", "<|usar|>"), r"<\|user\|>"),
    "a renamed result": (text("tokenizer.json", "<|observation|>", "<|observe|>"), r"<\|observation\|>"),
    "a renamed prefix": (text("tokenizer.json", "<sop>", "<sup>"), "<sop>"),
    "an ordinary end": (edit("generation_config.json", lambda d: d.update(eos_token_id=[0])), "eos_token_id is 0"),
    "an end that is none": (edit("generation_config.json", lambda d: d.update(eos_token_id=[10**30])), "eos_token_id"),
    "an ordinary end in the config": (
        lambda folder: (
            edit("generation_config.json", lambda d: d.pop("eos_token_id"))(folder),
            edit("config.json", lambda d: d.update(eos_token_id=7))(folder),
        ),
        "eos_token_id is 7",
    ),
    "equal ids": (edit("tokenizer.json", same_ids), "tokenizer.json is damaged"),
    "equal ids in the vocabulary": (edit("tokenizer.json", same_ids_in_the_vocabulary), "the same id"),
    "a huge rank": (huge_rank, "too large"),
    "a surrogate": (write("config.json", '{"architectures": ["\\ud800"]}'), "architecture"),
    "an infinite top_k": (write("generation_config.json", '{"do_sample": true, "top_k": -Infinity}'), "not readable"),
    "a huge top_k": (write("generation_config.json", '{"do_sample": true, "top_k": 1e308}'), "generation_config.json"),
    "an empty template": (write("chat_template.jinja", " \n"), "is empty"),
    "the name of a template": (write("chat_template.jinja", "chatglm4"), "chatglm4"),
    "a long template that is none": (write("chat_template.jinja", "x" * 100_000), "not a template"),
    "a NUL in a name": (edit("config.json", lambda d: d.update(model_type="glm4\0\x1b[31m")), "model type"),
} | {
    f"deep {name}": (write(name, DEEP), name.replace(".", r"\."))
    for name in ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json")
}


@pytest.mark.parametrize(("damage", "words"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_checkpoint_is_refused_in_a_line(checkpoint, damage, words):
    damage(checkpoint)
    with pytest.raises(CheckpointError, match=words) as caught:
        list(convert(checkpoint, checkpoint.with_name("model")))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    assert caught.value.hint


def test_a_role_token_may_have_another_name(checkpoint):
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        path = checkpoint / name
        path.write_text(path.read_text(encoding="utf-8").replace("<|user|>", "<|human|>"), encoding="utf-8")
    path = checkpoint / "chat_template.jinja"
    role = '<|{{ "human" if turn.role == "user" else turn.role }}|>'
    path.write_text(path.read_text(encoding="utf-8").replace("<|{{ turn.role }}|>", role), encoding="utf-8")
    assert "<|human|>" in Checkpoint.open(checkpoint).manifest.special_tokens


def test_a_licence_that_links_out_of_the_checkpoint_is_rejected(checkpoint, tmp_path):
    (tmp_path / "key").write_text("secret")
    (tmp_path / "out").mkdir()
    (checkpoint / "LICENSE-other").symlink_to(tmp_path / "key")
    with pytest.raises(CheckpointError, match="LICENSE-other is a link out of the checkpoint"):
        copy_text_files(Checkpoint.open(checkpoint), tmp_path / "out")
    for name in ("README.md", "LICENSE", "chat_template.jinja"):
        path = checkpoint / name
        path.unlink(missing_ok=True)
        path.symlink_to(tmp_path / "key")
        with pytest.raises(CheckpointError, match=f"{name} is a link"):
            Checkpoint.open(checkpoint)
        path.unlink()


def test_links_within_the_checkpoint_and_its_entry_of_the_hubs_cache_are_followed(tmp_path):
    entry = tmp_path / "models--zai-org--GLM-4-Tiny"
    snapshot, blobs = entry / "snapshots/0123", entry / "blobs"
    shutil.copytree(CHECKPOINT, snapshot)
    blobs.mkdir()
    (snapshot / "LICENSE").write_text("MIT")
    for number, path in enumerate(sorted(snapshot.iterdir())):
        path.rename(blobs / str(number))
        path.symlink_to(f"../../blobs/{number}")
    (snapshot / "LICENSE.txt").symlink_to("LICENSE")
    (tmp_path / "out").mkdir()
    copy_text_files(Checkpoint.open(snapshot), tmp_path / "out")
    assert (tmp_path / "out/LICENSE.txt").read_text() == (tmp_path / "out/LICENSE").read_text() == "MIT"
    assert not (tmp_path / "out/LICENSE").is_symlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
@pytest.mark.parametrize("name", ["README.md", "LICENSE", "chat_template.jinja", "config.json", "tokenizer.json"])
def test_what_would_block_or_never_end_is_refused(checkpoint, name):
    (checkpoint / name).unlink(missing_ok=True)
    os.mkfifo(checkpoint / name)
    with pytest.raises(CheckpointError, match=f"{name} is not a regular file"):
        Checkpoint.open(checkpoint)
    (checkpoint / name).unlink()
    (checkpoint / name).symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match=name):
        Checkpoint.open(checkpoint)


def test_a_long_licence_is_refused(checkpoint, tmp_path):
    (checkpoint / "LICENSE").write_bytes(b"x" * (1 << 21))
    with pytest.raises(CheckpointError, match="LICENSE cannot be read: it has more than"):
        copy_text_files(Checkpoint.open(checkpoint), tmp_path)


@pytest.mark.parametrize("place", ["end", "middle", "start"])
def test_bytes_of_a_gguf_that_belong_to_no_tensor_are_found(tmp_path, place):
    path = write_gguf(Tiny().write(tmp_path / "source"), tmp_path / "x.gguf", "F16")
    CheckpointTensors.open(path).close()
    raw = path.read_bytes()
    at = {"end": len(raw), "middle": len(raw) - 4096, "start": len(raw) // 2}[place]
    path.write_bytes(raw[:at] + bytes(64 if place != "end" else 1 << 20) + raw[at:])
    with pytest.raises(CheckpointError, match="belong to no tensor"):
        CheckpointTensors.open(path)


@pytest.mark.parametrize("template", ["chatglm4", " "])
def test_a_gguf_with_the_name_of_a_template_is_refused(tmp_path, template):
    path = write_gguf(CHECKPOINT, tmp_path / "x.gguf", "F16", tokenizer__chat_template=template)
    with pytest.raises(CheckpointError, match="the chat template of x is"):
        Checkpoint.open(path)


def test_infinite_sampling_in_a_gguf_is_refused(tmp_path):
    path = write_gguf(
        CHECKPOINT, tmp_path / "x.gguf", "F16", general__sampling__top_k=float("-inf"), general__sampling__temp=1.0
    )
    with pytest.raises(CheckpointError, match="damaged"):
        Checkpoint.open(path)


LINE = {"weight": "a", "parts": {"a": {"offset": 0, "nbytes": 4}}, "end": 4, "sha256": sha256(b"abcd").hexdigest()}
TORN = {
    "far beyond": LINE | {"end": 10**20},
    "before its beginning": LINE | {"end": -1},
    "a part beyond": LINE | {"parts": {"a": {"offset": 2, "nbytes": 4}}},
    "a part before": LINE | {"parts": {"a": {"offset": -2, "nbytes": 4}}},
    "parts that are a list": LINE | {"parts": []},
    "a fraction": LINE | {"parts": {"a": {"offset": 0.5, "nbytes": 1}}},
    "no name": LINE | {"weight": None},
}


@pytest.mark.parametrize(("line", "weights"), [(LINE, 1), *((line, 0) for line in TORN.values())], ids=["whole", *TORN])
def test_what_a_conversion_has_left_is_believed_within_its_file(tmp_path, line, weights):
    (tmp_path / "openvino_model.bin").write_bytes(b"abcdefgh")
    (tmp_path / "openvino_model.jsonl").write_text('{"recipe": "int4"}\n' + json.dumps(line) + "\n")
    assert len(Journal.open(tmp_path / "openvino_model.bin", {"recipe": "int4"}).finished) == weights


def test_a_saved_chat_that_is_none_is_not_quoted_whole(tmp_path):
    model = Model(Checkpoint.open(CHECKPOINT), backend=Echo([""]))
    for content in (b'{"messages": [{"role": "' + b"x" * 90_000 + b'"}]}', b'{"messages": "\xff' + b"x" * 90_000):
        (tmp_path / "chat.json").write_bytes(content)
        with pytest.raises(RequestError, match="is not a saved chat") as caught:
            Chat(model).load(tmp_path / "chat.json")
        assert len(str(caught.value)) < 500


def test_a_byte_order_mark_before_toml_is_passed_over(tmp_path):
    (tmp_path / "kiosk.toml").write_bytes(b"\xef\xbb\xbf" + b'title = "Museum"\r\n')
    assert Kiosk.load(str(tmp_path / "kiosk.toml")).title == "Museum"


@pytest.mark.parametrize(
    "content",
    [
        "title = " + "[" * 9999,
        "a" + ".a" * 2000 + " = 1",
        "title = \0",
        "#" * 99_999,
        '"\\u001b' + "a" * 9999 + '" = 1',
    ],
)
def test_deep_toml_is_refused(tmp_path, content):
    (tmp_path / "kiosk.toml").write_text(content)
    with pytest.raises(RequestError) as caught:
        Kiosk.load(str(tmp_path / "kiosk.toml"))
    assert isinstance(caught.value, EdgeError)
    assert len(str(caught.value)) < 500
