import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from convert import pipeline
from convert.pipeline import convert
from convert.source.safetensors import SafetensorsSource
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.errors import CheckpointError, ConversionError, DiskFull, EdgeError, TemplateError
from runtime.folder.model_folder import ModelFolder

from .checkpoints import Tiny
from .conftest import SPECIAL_TOKENS
from .references import write_tiktoken
from .test_tokenizer import RANKS, VOCABULARY

END = len(RANKS)
TEMPLATE = (  # shows tools where the formats of 0414 and of 2024 have them
    "[gMASK]<sop>{% for tool in tools or [] %}{{ tool.name }}\n{% endfor %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.metadata }}\n"
    "{% for tool in m.tools or [] %}{{ tool.function.name }}\n{% endfor %}{{ m.content }}{% endfor %}<|assistant|>"
)


def write_checkpoint(folder: Path, **tiny) -> Path:
    """A tiny checkpoint with a tokenizer and a chat template."""
    config = {"eos_token_id": [END, END + 7], "model_type": tiny.get("format", "glm4")}
    Tiny(**{"layers": 1, "vocab": VOCABULARY + 6, "config": config} | tiny).write(folder)
    write_tiktoken(folder, RANKS)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("source") / "tiny")


def run(source, target, recipe="bf16"):
    """Converts; returns the progress."""
    return list(convert(source, target, recipe))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "tiny"),
    [
        ("int4", {}),
        ("int4-fit", {"format": "glm", "tied": True, "dtype": "bf16"}),
        ("int4-npu", {"format": "chatglm", "qkv_bias": True, "dtype": "f16"}),
        ("int4-asym", {"dtype": "bf16", "hidden": 128, "ffn": 200}),
        ("int4-small", {"dtype": "bf16", "hidden": 128}),
        ("int4-gptq", {"dtype": "f32", "hidden": 128}),
        ("int4-npu+awq+scale", {"format": "glm", "tied": True, "hidden": 128, "dtype": "f16"}),
        ("int4-mixed", {"dtype": "bf16", "hidden": 128, "layers": 3}),
        ("int8", {"format": "glm", "qkv_bias": True, "dtype": "mixed", "shards": 2}),
        ("bf16", {"dtype": "bf16"}),
    ],
)
def test_a_checkpoint_becomes_a_model_folder(tmp_path, recipe, tiny):
    source = write_checkpoint(tmp_path / "source", **tiny)
    progress = run(source, tmp_path / "model", recipe)
    folder = ModelFolder.open(tmp_path / "model")
    folder.verify()
    assert folder == progress[-1].result
    manifest = folder.manifest
    assert (manifest.recipe, manifest.source.name) == (recipe, "source")
    assert manifest.special_tokens == {name: END + i for i, name in enumerate(SPECIAL_TOKENS)}
    assert manifest.verification["tokens"] > 100
    assert 0 <= manifest.verification["mean_kl"] <= manifest.verification["max_kl"]
    assert folder.chat_template() == TEMPLATE
    ends = [END, END + 7, manifest.special_tokens["<|observation|>"]]  # after a call, as the family's template has it
    assert json.loads((folder.path / "generation_config.json").read_text())["eos_token_id"] == ends
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "source"]
    steps = {"check", "tokenizer", "compress", "save", "verify", "seal"} | ({"measure"} if "mixed" in recipe else set())
    assert steps == {step.name for step in progress}
    file = (folder.path / "openvino_model.bin").stat().st_size
    assert 0 <= file - manifest.sizes.weights < 8192, "the rest is the graph's own, and what aligns it"
    done = [step.done for step in progress if step.name == "compress"]
    assert done == sorted(done)
    assert done[-1] == next(step.total for step in progress if step.name == "compress")


@pytest.mark.slow
def test_the_users_texts_are_read_first(checkpoint, tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "hello"}\n{"text": 1}\n')
    with pytest.raises(ConversionError, match=r"texts\.jsonl:2: .text. must be"):
        list(convert(checkpoint, tmp_path / "model", None, path))
    path.write_text('{"text": "hello, hello, hello"}\n')
    with pytest.raises(ConversionError, match="the recipe int4 does not use calibration texts"):
        list(convert(checkpoint, tmp_path / "model", "int4", path))
    for recipe, name in ((None, "int4-fit"), ("int4-awq", "int4-awq")):
        list(convert(checkpoint, tmp_path / name, recipe, path))
        assert ModelFolder.open(tmp_path / name).manifest.recipe == name


@pytest.mark.slow
def test_the_npu_recipe_runs_on_the_npus_own_pipeline(checkpoint, tmp_path):
    """The one of static shapes, here on the CPU."""
    import openvino_genai as genai

    run(checkpoint, tmp_path / "model", "int4-npu")
    on_cpu = {"NPU_USE_NPUW": "YES", "NPUW_DEVICES": "CPU", "NPUW_ONLINE_PIPELINE": "NONE"}
    pipeline = genai.LLMPipeline(str(tmp_path / "model"), "NPU", MAX_PROMPT_LEN=64, MIN_RESPONSE_LEN=32, **on_cpu)
    tokens = pipeline.get_tokenizer().encode("<|user|>hello", add_special_tokens=False)
    config = genai.GenerationConfig(max_new_tokens=8, ignore_eos=True, apply_chat_template=False)
    assert len(pipeline.generate(tokens, config).tokens[0]) == 8


def test_what_is_not_the_recipe_is_said(tmp_path):
    source = write_checkpoint(tmp_path / "source", layers=2, ffn=72)
    (result,) = (step.result for step in convert(source, tmp_path / "model", "int4") if step.result)
    assert "model.layers.N.mlp.down_proj.weight: int8_asym, since 72 columns do not divide into groups of 128" in (
        result.manifest.notes
    )


def test_a_base_model_has_no_template(tmp_path):
    source = write_checkpoint(tmp_path / "source")
    (source / "chat_template.jinja").unlink()
    run(source, tmp_path / "model")
    assert ModelFolder.open(tmp_path / "model").manifest.notes == (
        "no chat template: a base model, for completion only",
    )


@pytest.mark.parametrize("where", ["text", "list"])
def test_older_checkpoints_keep_the_template_in_tokenizer_config(tmp_path, where):
    source = write_checkpoint(tmp_path / "source")
    (source / "chat_template.jinja").unlink()
    config = json.loads((source / "tokenizer_config.json").read_text())
    other = {"name": "rag", "template": "no"}
    config["chat_template"] = TEMPLATE if where == "text" else [other, {"name": "default", "template": TEMPLATE}]
    (source / "tokenizer_config.json").write_text(json.dumps(config))
    run(source, tmp_path / "model")
    templates = ModelFolder.open(tmp_path / "model").chat_templates()
    assert templates.named == {"default": TEMPLATE} | ({"rag": "no"} if where == "list" else {})
    assert templates.tokens == {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}


@pytest.mark.slow
def test_the_licence_goes_along(tmp_path):
    source = write_checkpoint(tmp_path / "source")
    (source / "LICENSE").write_text("The terms")
    (source / "README.md").write_text("---\nlicense: other\nlicense_name: glm-4\n---\nlicense: none\n")
    run(source, tmp_path / "model")
    assert ModelFolder.open(tmp_path / "model").manifest.licence == "glm-4"
    assert (tmp_path / "model" / "LICENSE").read_text() == "The terms"


def remove(name):
    return lambda source: (source / name).unlink()


def write(name, text):
    return lambda source: (source / name).write_text(text)


def setting(key, value, file="config.json"):
    def change(source):
        config = json.loads((source / file).read_text())
        (source / file).write_text(json.dumps(config | {key: value}))

    return change


REFUSED = {
    "no folder": (shutil.rmtree, CheckpointError, "there is no folder"),
    "no weights": (remove("model.safetensors"), CheckpointError, "safetensors"),
    "no tokenizer": (remove("tokenizer.model"), CheckpointError, "neither tokenizer.json nor"),
    "another model type": (setting("model_type", "llama"), CheckpointError, "llama"),
    "a broken template": (write("chat_template.jinja", "{% for %}"), TemplateError, "not valid"),
    "a template of a wrong kind": (
        lambda source: (
            remove("chat_template.jinja")(source),
            setting("chat_template", 1, "tokenizer_config.json")(source),
        ),
        CheckpointError,
        "chat_template is damaged",
    ),
    "an impossible generation_config": (
        write("generation_config.json", '{"do_sample": true, "temperature": 99}'),
        CheckpointError,
        "generation_config.json is damaged: temperature",
    ),
    "a broken generation_config": (write("generation_config.json", "{"), CheckpointError, "generation_config.json"),
}


@pytest.mark.parametrize(("harm", "kind", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_checkpoint_is_refused_before_the_work(tmp_path, harm, kind, message):
    harm(write_checkpoint(tmp_path / "source"))
    with pytest.raises(kind, match=message) as caught:
        run(tmp_path / "source", tmp_path / "model")
    assert caught.value.hint
    assert [path.name for path in tmp_path.iterdir() if path.name != "source"] == []


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("nowhere")])
def test_an_existing_target_is_refused_first(tmp_path, make):
    make(tmp_path / "model")
    with pytest.raises(ConversionError, match="exists already"):
        run(tmp_path / "no checkpoint", tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.slow
def test_a_target_that_appears_meanwhile_is_not_touched(checkpoint, tmp_path):
    target = tmp_path / "model"
    progress = convert(checkpoint, target, "bf16")
    while next(progress).name != "seal":
        pass
    target.mkdir()
    (target / "mine").touch()
    with pytest.raises(ConversionError, match="exists already"):
        list(progress)
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "mine"]


def test_a_target_that_another_conversion_makes_is_refused(checkpoint, tmp_path):
    first = convert(checkpoint, tmp_path / "model", "bf16")
    next(first)
    with pytest.raises(ConversionError, match="being converted already"):
        next(convert(checkpoint, tmp_path / "model", "bf16"))
    import psutil

    other = tmp_path / f".other.partial-1-{int(psutil.Process(1).create_time())}"  # process 1 lives as long as we do
    other.mkdir()
    with pytest.raises(ConversionError, match="being converted already"):
        next(convert(checkpoint, tmp_path / "other", "bf16"))
    first.close()
    assert list(tmp_path.iterdir()) == [other]


def test_a_missing_parent_is_refused(checkpoint, tmp_path):
    with pytest.raises(ConversionError, match="there is no folder"):
        run(checkpoint, tmp_path / "none" / "model")


def test_an_unknown_recipe_is_refused(checkpoint, tmp_path):
    with pytest.raises(ConversionError, match="int5") as caught:
        run(checkpoint, tmp_path / "model", "int5")
    assert "int4" in caught.value.hint


def test_too_little_disk_is_refused_at_once(checkpoint, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    with pytest.raises(DiskFull, match=r"needs about .* MB in .*, but 1.0 MB is free"):
        run(checkpoint, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_too_little_memory_is_refused_at_once(checkpoint, tmp_path, monkeypatch):
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=900_000))
    monkeypatch.setattr(psutil, "swap_memory", lambda: SimpleNamespace(free=100_000))
    with pytest.raises(ConversionError, match=r"needs about .* of memory, but 1.0 MB is free"):
        run(checkpoint, tmp_path / "model")


@pytest.mark.slow
def test_closing_at_any_step_leaves_nothing(checkpoint, tmp_path):
    steps = len(run(checkpoint, tmp_path / "whole"))
    shutil.rmtree(tmp_path / "whole")
    for last in range(1, steps, 2):
        progress = convert(checkpoint, tmp_path / "model", "bf16")
        for _ in range(last):
            next(progress)
        progress.close()
        assert list(tmp_path.iterdir()) == [], last


@pytest.mark.slow
@pytest.mark.parametrize(
    "failure",
    [
        (OSError(errno.ENOSPC, "No space left on device"), DiskFull, "full"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), ConversionError, "'x': permission denied"),
        (OSError(errno.EIO, "Input/output error"), ConversionError, "input/output error"),
        (RuntimeError("Exception from src/x.cpp:1:\nit broke"), ConversionError, "failed: it broke"),
        (MemoryError(), ConversionError, "memory"),
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
    ],
)
@pytest.mark.parametrize(
    "where",
    [
        "source.safetensors.SafetensorsSource.write_ir",
        "source.safetensors.IrWriter",
        "parts.build_decoder",
        "source.safetensors.Journal.add",
        "pipeline.copy_text_files",
        "pipeline.build_manifest",
        "pipeline.write_manifest",
        "pipeline.ScratchFolder.publish",
    ],
)
def test_a_failure_anywhere_is_told_in_one_line_and_leaves_nothing(checkpoint, tmp_path, monkeypatch, failure, where):
    kind, refusal, message = failure

    def fail(*_):
        raise kind

    monkeypatch.setattr(f"convert.{where}", fail)
    with pytest.raises(refusal, match=message) as caught:
        run(checkpoint, tmp_path / "model")
    if issubclass(refusal, EdgeError):
        assert caught.value.hint
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def cut_short(checkpoint, parent, weights, recipe="int8"):
    """What a kill leaves after so many weights."""
    progress = convert(checkpoint, parent / "model", recipe)
    while weights >= 0:
        weights -= next(progress).name == "compress"
    (partial,) = parent.glob(".model.partial-*")
    left = parent / ".model.partial-4000000-1"  # no process has this number
    shutil.copytree(partial, left)
    progress.close()
    return left


@pytest.fixture
def compressed(monkeypatch):
    """The names of all matrices that NNCF was given."""
    from convert.weights import compress

    names, quantised = [], compress.compress_rows

    def noted(matrix, *form):
        names.append(matrix.name)
        yield from quantised(matrix, *form)

    monkeypatch.setattr(compress, "compress_rows", noted)
    return names


def files(folder):
    """Their names, and the weights; their hashes are those of the manifest."""
    ModelFolder.open(folder).verify()
    return sorted(path.name for path in folder.iterdir()), (folder / "openvino_model.bin").read_bytes()


@pytest.mark.slow
def test_what_was_cut_short_goes_on_from_the_last_weight(checkpoint, tmp_path, compressed):
    run(checkpoint, tmp_path / "whole", "int8")
    with CheckpointTensors.open(checkpoint) as opened:
        matrices = np.array([len(opened.tensor(name).shape) == 2 for name in opened.names])
    for weights in range(0, len(matrices) + 1, 3):
        cut_short(checkpoint, tmp_path, weights)
        (tmp_path / ".model.partial-4000000-1" / "litter").touch()
        compressed.clear()
        run(checkpoint, tmp_path / "model", "int8")
        assert files(tmp_path / "model") == files(tmp_path / "whole")
        assert len(compressed) == matrices[weights:].sum()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "whole"]
        shutil.rmtree(tmp_path / "model")


def lose(name, keep):
    """Cuts a file, as a power cut may."""

    def harm(left):
        data = (left / name).read_bytes()
        (left / name).write_bytes(data[: int(keep * len(data.rstrip(b"\0")))])

    return harm


def half_a_weight(left):
    """What was on its way to the disk after the last finished weight."""
    with (left / "openvino_model.bin").open("r+b") as file:
        file.seek(len(file.read().rstrip(b"\0")))
        file.write(b"\xff" * 100)


@pytest.mark.slow
@pytest.mark.parametrize(
    "harm",
    [
        half_a_weight,
        lose("openvino_model.bin", 0.5),
        lose("openvino_model.bin", 0.0),
        lose("openvino_model.jsonl", 0.5),
        lose("openvino_model.jsonl", 0.0),
        lambda left: (left / "openvino_model.bin").unlink(),
        lambda left: (left / "openvino_model.jsonl").unlink(),
        lambda left: (left / "openvino_model.jsonl").write_bytes(b"\xff\n{}\n"),
        lambda left: (left / "tokenizer.json").write_text("{"),
    ],
)
def test_what_was_left_damaged_is_done_again(checkpoint, tmp_path, harm):
    run(checkpoint, tmp_path / "whole", "int8")
    harm(cut_short(checkpoint, tmp_path, 9))
    run(checkpoint, tmp_path / "model", "int8")
    assert files(tmp_path / "model") == files(tmp_path / "whole")


@pytest.mark.slow
def test_what_was_left_of_another_conversion_is_cleared(checkpoint, tmp_path, compressed):
    cut_short(checkpoint, tmp_path, 9, "int4")
    compressed.clear()
    run(checkpoint, tmp_path / "model", "int8")
    assert len(compressed) == 8
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.slow
@pytest.mark.parametrize(("worth", "left"), [(0, 1), (2**28, 0)])
def test_ctrl_c_keeps_what_took_long(checkpoint, tmp_path, capsys, worth, left):
    from edge.cli import main

    def stop(*_):
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convert.output.scratch._MIN_RESUMABLE_BYTES", worth)
        patch.setattr("convert.pipeline.copy_text_files", stop)
        assert main(["convert", str(checkpoint), str(tmp_path / "model")]) == 130
    signal.signal(signal.SIGINT, before)
    assert ("resumes from there" in capsys.readouterr().err) == bool(left)
    assert len(list(tmp_path.iterdir())) == left
    for path in tmp_path.iterdir():
        path.rename(tmp_path / ".model.partial-4000000-1")
    run(checkpoint, tmp_path / "model", "int4")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


HOST = """
import json, os, shutil, signal, sys
sys.modules["torch"] = None  # as where it is not installed
sys.path.insert(0, {root!r})
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
source, parent = {source!r}, {parent!r}
target = os.path.join(parent, "model")
import convert.weights.compress, convert.pipeline, convert.check.reference
import openvino_genai, openvino_tokenizers, tokenizers, transformers
convert.weights.nncf.import_nncf()

def child(tell):
    try:
        for number, step in enumerate(convert.pipeline.convert(source, target, "int8")):
            os.write(tell, f"{{step.name}} {{step.detail}}\\n".encode())
    except BaseException as exc:
        os.write(2, f"{{exc!r}}\\n".encode() if not isinstance(exc, (KeyboardInterrupt, SystemExit)) else b"")
        os._exit(99 if isinstance(exc, Exception) else 130)
    os._exit(0)

def attempt(at, number):
    "Converts in a child, which gets the signal when it has taken so many steps."
    hear, tell = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(hear)
        child(tell)
    os.close(tell)
    seen = 0
    with os.fdopen(hear) as lines:
        for line in lines:
            seen += 1
            if seen == at:
                os.kill(pid, number)
    status, left = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), sorted(os.listdir(parent))
    shutil.rmtree(target, ignore_errors=True)
    return seen, status, left

for at, number in json.loads(sys.stdin.read()):
    print(json.dumps([at, number, *attempt(at, number)]), flush=True)
    if number == signal.SIGKILL:
        print(json.dumps([0, 0, *attempt(0, 0)]), flush=True)
print(json.dumps(["torch", sorted(m for m in sys.modules if m.split(".")[0] == "torch" and sys.modules[m])]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_killed_anywhere_it_leaves_nothing_that_a_rerun_does_not_clear(checkpoint, tmp_path):
    root = str(Path(__file__).resolve().parents[1])
    progress = run(checkpoint, tmp_path / "whole", "int8")
    shutil.rmtree(tmp_path / "whole")
    steps = [i for i, step in enumerate(progress, 1) if step.done != step.total or step.name == "seal"]
    published = len(progress) - 1  # it may be by then
    at = [step for step in steps if progress[step - 1].name != "compress" or step % 7 == 0]
    cases = [
        (step, kind)
        for i, step in enumerate(at)
        for kind in (signal.SIGKILL, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)[i % 3])
    ]
    host = subprocess.run(
        [sys.executable, "-c", HOST.format(root=root, source=str(checkpoint), parent=str(tmp_path))],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=False,
    )
    *results, torch = [json.loads(line) for line in host.stdout.splitlines() if line.startswith("[")]
    assert torch == ["torch", []], host.stderr
    assert len(results) == len(cases) + len(at)
    for step, kind, _, status, left in results:
        if not kind:  # the run after a kill
            assert (status, left) == (0, ["model"]), host.stderr
        elif kind == signal.SIGKILL:
            assert step >= published or (status == -signal.SIGKILL and "model" not in left), (step, status, left)
        else:
            assert (status, left) == (130, []) or (left == ["model"] and step >= published), (step, kind, host.stderr)


class ZippedSource(SafetensorsSource):
    """A format of the test's own: a zipped folder."""

    @classmethod
    def accepts(cls, path):
        return path.suffix == ".zip"

    @classmethod
    def open(cls, path, **settings):
        shutil.unpack_archive(path, path.with_suffix(""))
        return super().open(path.with_suffix(""), **settings)


def test_a_new_checkpoint_format_is_a_file_and_a_line(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(pipeline.SOURCES, "edge", (ZippedSource, *pipeline.SOURCES["edge"]))
    source = shutil.make_archive(str(tmp_path / "zipped"), "zip", checkpoint)
    *_, last = convert(source, tmp_path / "model", "int8")
    assert last.result.manifest.source.name == "zipped"
    assert last.result.manifest.verification["mean_kl"] < 0.1
