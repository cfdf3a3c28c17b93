"""An OpenVINO folder of another program becomes a model folder, and nothing in it changes but the manifest."""

import hashlib
import json
import os
import shutil
from xml.etree import ElementTree

import pytest

import edge
from convert.adopt import adopt
from convert.output.tokenizer import write_tokenizer
from convert.pipeline import convert
from edge.cli import main
from edge.conversion import convert as convert_by_name
from runtime.checkpoint.tokenizer import read_tokenizer
from runtime.errors import ConversionError, EdgeError, ModelFolderError
from runtime.folder.model_folder import MANIFEST, ModelFolder

from .references import write_tiktoken
from .test_pipeline import RANKS, TEMPLATE, write_checkpoint

pytestmark = pytest.mark.slow

_TOKENIZER_IRS = [f"openvino_{name}.{kind}" for name in ("tokenizer", "detokenizer") for kind in ("xml", "bin")]


@pytest.fixture
def foreign(demo_folder, tmp_path):
    """The embedded checkpoint's graph and tokenizer as another program leaves them: with optimum's inputs, without a
    manifest."""
    return shutil.copytree(demo_folder.path, tmp_path / "foreign", ignore=shutil.ignore_patterns(MANIFEST))


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def result_of(steps):
    *_, last = steps
    return last.result


def test_a_folder_is_adopted_where_it_is(foreign, demo_folder):
    before = hashes(foreign)
    folder = edge.adopt(foreign)
    after = hashes(foreign)
    assert after.pop(MANIFEST)
    assert after == before
    folder.verify()
    assert folder == ModelFolder.open(foreign)
    manifest, wanted = folder.manifest, demo_folder.manifest
    for name in ("family", "context_length", "kv_bytes_per_token", "special_tokens", "paged"):
        assert getattr(manifest, name) == getattr(wanted, name)
    assert (manifest.recipe, manifest.source.architecture) == ("adopted", "Glm4ForCausalLM")
    assert manifest.devices["CPU"] == wanted.devices["CPU"]
    assert manifest.verification["tokens"] > 100
    assert manifest.notes[0].startswith("adopted: ")
    for name in ("weights", "largest", "groups"):
        assert getattr(manifest.sizes, name) == pytest.approx(getattr(wanted.sizes, name), rel=0.05)
    with edge.Chat(foreign) as adopted, edge.Chat(demo_folder) as ours:
        assert adopted.send("Who are you?", temperature=0).text == ours.send("Who are you?", temperature=0).text


@pytest.mark.parametrize("without", [(), ("link",), ("link", "symlink")], ids=["links", "symbolic links", "copies"])
def test_a_linked_copy_is_adopted(foreign, tmp_path, monkeypatch, without):
    def refused(*_):
        raise OSError(18, "Invalid cross-device link")

    for name in without:
        monkeypatch.setattr(os, name, refused)
    (foreign / "modeling_chatglm.py").write_text("raise SystemExit")
    before = hashes(foreign)
    folder = result_of(adopt(foreign, tmp_path / "out"))
    assert hashes(foreign) == before
    folder.verify()
    assert before.keys() - folder.manifest.files.keys() == {"modeling_chatglm.py"}
    weights = folder.path / "openvino_model.bin"
    assert os.path.samefile(weights, foreign / weights.name) == (len(without) < 2)
    assert weights.is_symlink() == (len(without) == 1)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def as_the_makers_demo_leaves_it(folder):
    """GLM-4's own demo saves the tokenizer of 2024's checkpoints: no IR, no tokenizer.json, the template in JSON."""
    for name in (*_TOKENIZER_IRS, "tokenizer.json", "chat_template.jinja", "generation_config.json", MANIFEST):
        (folder / name).unlink()
    write_tiktoken(folder, RANKS)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": TEMPLATE}))


def test_a_folder_of_the_makers_demo_gets_a_tokenizer(tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / "source", format="chatglm", qkv_bias=True, dtype="f16")
    wanted = result_of(convert(checkpoint, tmp_path / "foreign", "int8")).manifest
    as_the_makers_demo_leaves_it(tmp_path / "foreign")
    before = hashes(tmp_path / "foreign")
    assert main(["adopt", str(tmp_path / "foreign")]) == 1
    said = capsys.readouterr().err
    assert "it has no openvino_tokenizer.xml" in said
    assert f"hint: `edge adopt {tmp_path / 'foreign'} OUT`" in said
    assert main(["adopt", str(tmp_path / "foreign"), str(tmp_path / "out")]) == 0
    assert hashes(tmp_path / "foreign") == before
    folder = ModelFolder.open(tmp_path / "out")
    folder.verify()
    assert folder.chat_template() == TEMPLATE
    assert folder.manifest.family == wanted.family
    assert "the tokenizer's IR is ours" in folder.manifest.notes
    with edge.Model(folder, in_process=True) as model:
        assert model.backend.encode(("<|user|>\nabc",)) == model.backend.encode(("<|user|>", "\nabc"))


def edit(folder, name, **changes):
    (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))


def replace_in_graph(folder, old, new):
    path = folder / "openvino_model.xml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def cut(folder, name, size):
    (folder / name).write_bytes((folder / name).read_bytes()[:size])


REFUSED = {
    "no graph": (lambda f: (f / "openvino_model.xml").unlink(), "has no openvino_model.xml", "edge convert"),
    "no weights": (lambda f: (f / "openvino_model.bin").unlink(), "has 0 bytes, but its graph reads", "git lfs pull"),
    "a pointer": (lambda f: cut(f, "openvino_model.bin", 130), "has 130 bytes, but its graph reads", "git lfs pull"),
    "a broken graph": (lambda f: cut(f, "openvino_model.xml", 5000), "is not an IR", ""),
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json", ""),
    "another model": (lambda f: edit(f, "config.json", model_type="llama"), "model type", "supported"),
    "layers": (lambda f: edit(f, "config.json", num_hidden_layers=9), "has 6 layers, but config.json has 9", "config"),
    "vocabulary": (lambda f: edit(f, "config.json", vocab_size=9000), "logits, but config.json has 9,000", "config"),
    "another input": (
        lambda f: replace_in_graph(f, 'name="beam_idx" type="Parameter"', 'name="pixels" type="Parameter"'),
        "has the unknown input 'pixels'",
        "optimum-cli",
    ),
    "outer cache": (
        lambda f: replace_in_graph(f, 'type="ReadValue"', 'type="Identity"'),
        "keeps its KV cache outside",
        "optimum-cli",
    ),
    "no template": (lambda f: (f / "tokenizer.json").unlink(), "neither tokenizer.json nor", ""),
    "a vision model": (
        lambda f: (f / "openvino_model.xml").rename(f / "openvino_language_model.xml"),
        "is the export of a vision model",
        "text model",
    ),
    "no detokenizer": (
        lambda f: (f / "openvino_detokenizer.xml").unlink(),
        "cannot be adopted as it is: it has no openvino_detokenizer.xml",
        "OUT` makes a linked copy",
    ),
}


@pytest.mark.parametrize(("change", "message", "hint"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_adopted_is_said_in_a_line(foreign, tmp_path, change, message, hint):
    change(foreign)
    before = hashes(foreign)
    with pytest.raises(EdgeError) as caught:
        list(adopt(foreign))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert hint in caught.value.hint
    assert hashes(foreign) == before
    assert [path.name for path in tmp_path.iterdir()] == ["foreign"]


def test_damaged_weights_are_found(foreign):
    """The scales of all matrices are NaN."""
    constants = ElementTree.parse(foreign / "openvino_model.xml").getroot().iterfind("layers/layer[@type='Const']/data")
    data = bytearray((foreign / "openvino_model.bin").read_bytes())
    for constant in constants:
        if constant.attrib["element_type"] == "f16":
            first, size = int(constant.attrib["offset"]), int(constant.attrib["size"])
            data[first : first + size] = b"\xff" * size
    (foreign / "openvino_model.bin").write_bytes(data)
    with pytest.raises(ConversionError, match="are NaN: its weights are damaged"):
        list(adopt(foreign))


def test_a_tokenizer_of_another_model_is_replaced_in_a_copy(foreign, tmp_path):
    path = foreign / "tokenizer.json"
    text = path.read_text(encoding="utf-8")
    data = json.loads(text)
    data["model"] |= {"ignore_merges": False, "merges": data["model"]["merges"][:500]}
    path.write_text(json.dumps(data), encoding="utf-8")
    write_tokenizer(read_tokenizer(foreign, 2480, [2466]), foreign)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConversionError, match="cannot be adopted as it is: the tokenizer IR encodes"):
        list(adopt(foreign))
    assert "the tokenizer's IR is ours" in result_of(adopt(foreign, tmp_path / "out")).manifest.notes


def test_what_exists_is_not_touched(foreign, demo_folder, tmp_path):
    with pytest.raises(ConversionError, match="exists already"):
        list(adopt(foreign, tmp_path))
    with pytest.raises(ConversionError, match="is a model folder already"):
        list(adopt(demo_folder.path))
    with pytest.raises(ConversionError, match="there is no folder"):
        list(adopt(tmp_path / "nowhere"))


def test_whoever_opens_one_hears_of_it(foreign, tmp_path):
    with pytest.raises(ModelFolderError, match="OpenVINO folder of another program") as caught:
        edge.Chat(foreign)
    assert f"edge adopt {foreign}" in caught.value.hint
    with pytest.raises(ModelFolderError) as caught:
        edge.inspect(foreign)
    assert f"edge adopt {foreign}" in caught.value.hint
    with pytest.raises(EdgeError) as caught:
        convert_by_name(foreign, tmp_path / "out")
    assert f"edge adopt {foreign}" in caught.value.hint
