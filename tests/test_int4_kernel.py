"""The int4 kernel: its products on every set of instructions, the graph with it, and models that use it."""

import json
import re
import shutil
from contextlib import closing
from xml.etree import ElementTree

import numpy as np
import pytest

import edge
from edge.cli import main
from runtime.backends.backend import Request
from runtime.backends.openvino.int4 import library
from runtime.backends.openvino.int4.advice import describe_kernel
from runtime.backends.openvino.int4.graph import count_weights, rewrite_graph, rewritten_folder
from runtime.backends.openvino.int4.loading import find_mapped_weights, find_obstacle
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.backends.openvino.process.loading_progress import LoadingProgress
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.errors import BackendError, RequestError
from runtime.pictures import Picture
from runtime.reply.reply import Reply
from runtime.sampling import SamplingParams

from .checkpoints import write_safetensors
from .glm4v import write_vision_checkpoint

GROUP = library.GROUP
QUESTIONS = ("Who are you?", "What is two plus two?", "Write a haiku about the sea.", "你好", "List three fruits.")

pytestmark = pytest.mark.skipif(
    not library.is_supported_platform() or not any(map(shutil.which, ("c++", "g++", "clang++"))),
    reason="the kernel is built by a C++ compiler, on Linux for x86-64",
)


@pytest.fixture(scope="module")
def built():
    """The library in the cache of the tests, for the tests of this file alone."""
    path = library.build_library()
    yield path
    shutil.rmtree(library.library_root())


def rounded(activations):
    """Activations as the kernel rounds them: to int8, with a scale for each group."""
    groups = activations.reshape(len(activations), -1, GROUP)
    scales = np.abs(groups).max(-1, keepdims=True) / 127
    return (np.rint(groups / np.where(scales, scales, 1)) * scales).reshape(activations.shape)


@pytest.mark.parametrize("columns", [GROUP, 17 * GROUP, 32 * GROUP], ids=lambda count: f"{count} columns")
@pytest.mark.parametrize("rows", [1, 64, 131], ids=lambda count: f"{count} rows")
def test_products_are_numpys(built, rows, columns):
    random = np.random.default_rng(rows + columns)
    weights = random.integers(0, 256, (rows, columns // 2), dtype=np.uint8)
    scales = random.uniform(0.001, 0.02, (rows, columns // GROUP)).astype(np.float16)
    exact = library.decompress(weights, scales).astype(np.float64)
    best = next(one for one, name in library.INSTRUCTIONS.items() if name == library.find_instructions(built))
    runnable = {1: (1,), 2: (1, 2), 3: (1, 3, 4)}[best]
    for count in (1, 2, 5, 6, 7, 13, 64, 259):
        activations = random.standard_normal((count, columns)).astype(np.float32)
        activations[0] *= 1e-3
        if columns > GROUP:
            activations[-1, :GROUP] = 0
        wanted = rounded(activations) @ exact.T
        for instructions in runnable:
            found = library.multiply(built, instructions, activations, weights, scales)
            # an activation half-way between two integers may go either way
            limit = 1e-5 + np.abs(activations).max(1, keepdims=True) / 127 * np.abs(exact).max() * 3
            assert (np.abs(found - wanted) <= limit).all(), (count, library.INSTRUCTIONS[instructions])


def test_weights_are_those_of_openvinos_i4():
    import openvino

    values = np.arange(-8, 8, dtype=np.int8).repeat(GROUP // 8).reshape(2, GROUP)
    packed = ((values[:, 1::2] & 15) << 4 | values[:, ::2] & 15).astype(np.uint8)
    constant = openvino.op.Constant(openvino.Tensor(packed, [2, GROUP], openvino.Type.i4))
    convert = openvino.opset13.convert(constant, "f32")
    model = openvino.Model([convert], [])
    theirs = openvino.Core().compile_model(model, "CPU")({})[0]
    assert (library.decompress(packed, np.ones((2, 1), np.float16)) == theirs).all()
    assert (theirs == values).all()


def test_a_graph_keeps_all_but_its_int4_products(demo_folder, tmp_path):
    source, target = demo_folder.path / "openvino_model.xml", tmp_path / "openvino_model.xml"
    layers = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"}
    count = rewrite_graph(source, target, sampled=True)
    before, after = (ElementTree.parse(path).getroot().find("layers") for path in (source, target))
    replaced = [layer for layer in after if layer.get("type") == "Int4MatMul"]
    assert count == len(replaced) > 0
    assert {layer.get("name").rpartition(".")[2] for layer in replaced} == layers
    assert count == len([1 for layer in before if layer.get("name", "").rpartition(".")[2] in layers])
    offsets = {layer.find("data").get("offset") for layer in before if layer.get("type") == "Const"}
    assert {layer.find("data").get("offset") for layer in after if layer.get("type") == "Const"} <= offsets


def test_an_error_while_a_rewritten_folder_is_loaded_stays_what_it_is(demo_folder):
    def load():
        with rewritten_folder(demo_folder.path, "openvino_model", sampled=True) as place:
            assert (place / "openvino_model.bin").samefile(demo_folder.path / "openvino_model.bin")
            places.append(place)
            raise OSError("of the engine")

    places = []
    with pytest.raises(OSError, match="of the engine"):
        load()
    assert not places[0].exists()


@pytest.mark.parametrize("recipe", ["int8", "int4-asym"])
def test_other_recipes_are_left_to_openvino(tmp_path, recipe):
    folder = tmp_path / recipe
    edge.convert(edge.demo.CHECKPOINT, folder, recipe=recipe)
    assert rewrite_graph(folder / "openvino_model.xml", tmp_path / "none.xml", sampled=True) == 0
    assert not (tmp_path / "none.xml").exists()


def test_replies_are_those_of_openvinos_products(built, demo_folder):
    found = []
    for kernel in (False, True):
        options = edge.Options(int4_kernel=kernel)
        with edge.Chat(demo_folder.path, device="CPU", options=options) as chat:
            found.append([str(chat.send(question)) for question in QUESTIONS])
    assert found[0] == found[1]
    assert all(found[0])


@pytest.fixture(scope="module")
def with_int4_head(tmp_path_factory):
    """The embedded model with a head of its own, in int4."""
    checkpoint = tmp_path_factory.mktemp("untied") / "checkpoint"
    shutil.copytree(edge.demo.CHECKPOINT, checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    with CheckpointTensors.open(edge.demo.CHECKPOINT) as source:
        tensors = [
            (name, tensor.dtype.upper(), tensor.shape, tensor.data.tobytes())
            for name in ("model.embed_tokens.weight", *source.names)
            for tensor in [source.tensor(name)]
        ]
    tensors[0] = ("lm_head.weight", *tensors[0][1:])
    write_safetensors(checkpoint / "model.safetensors", tensors)
    return edge.convert(checkpoint, checkpoint.with_name("int4-small"), recipe="int4-small")


def test_an_int4_head_computes_sampled_tokens_alone(built, with_int4_head, tmp_path):
    before = rewrite_graph(with_int4_head.path / "openvino_model.xml", tmp_path / "openvino_model.xml", sampled=True)
    layers = {layer.get("name"): layer for layer in ElementTree.parse(tmp_path / "openvino_model.xml").iter("layer")}
    assert layers["sampled_tokens_indices"].get("type") == "Parameter"
    assert before == len([layer for layer in layers.values() if layer.get("type") == "Int4MatMul"])
    head = next(
        layer for layer in layers.values() if "lm_head" in layer.get("name") and layer.get("type") == "Int4MatMul"
    )
    assert head.get("name") + "/sampled" in layers
    found = []
    for kernel in (False, True):
        options = edge.Options(int4_kernel=kernel)
        with edge.Chat(with_int4_head.path, device="CPU", options=options) as chat:
            found.append([str(chat.send(question)) for question in QUESTIONS])
    assert found[0] == found[1]
    assert all(found[0])


def test_logits_of_all_tokens_are_as_close_as_openvinos_products(built, with_int4_head):
    exact = edge.Options(int4_kernel=False, precision="f32", kv_precision="f32", activation_group=0)
    found = []
    for options in (exact, edge.Options(int4_kernel=False), edge.Options(int4_kernel=True)):
        with edge.Model(with_int4_head.path, device="CPU", options=options) as model:
            events = model.complete("A bakery opens at seven. " * 6, prompt_logprobs=True, max_tokens=1)
            found.append([token.logprob for token in Reply.from_events(events).prompt_logprobs])
    stock, kernel = (np.abs(np.subtract(one, found[0])).mean() for one in found[1:])
    assert 0 < kernel < 1.5 * stock < 0.5


def test_what_it_cannot_do_is_said(built, demo_folder):
    for options, reason in (
        (edge.Options(int4_kernel=True, activation_group=32), "in groups of 128, not of 32"),
        (edge.Options(int4_kernel=True, activation_group=0), "in groups of 128, not of 0"),
    ):
        with pytest.raises(BackendError, match=reason):
            edge.Model(demo_folder.path, device="CPU", options=options)
    with pytest.raises(RequestError, match="int4_kernel"):
        edge.Options(int4_kernel="yes")


def test_vision_models_read_pictures_with_it(built, tmp_path):
    pytest.importorskip("PIL")
    checkpoint = write_vision_checkpoint(tmp_path / "checkpoint", hidden=128, ffn=256, layers=2)
    folder = edge.convert(checkpoint, tmp_path / "int4", recipe="int4")
    pictures = [
        Picture.open(np.random.default_rng(seed).integers(0, 256, (56, 56, 3), dtype=np.uint8)) for seed in (1, 2)
    ]
    prompts = [("<|user|>\n", picture, "a boat") for picture in pictures]
    prompts.append(("<|user|>\n", "a boat"))
    found = []
    exact = edge.Options(int4_kernel=False, precision="f32", kv_precision="f32", activation_group=0)
    for options in (exact, edge.Options(int4_kernel=False), edge.Options(int4_kernel=True)):
        sampling = SamplingParams(max_new_tokens=1, temperature=0.0, logprobs=True)
        with closing(OpenVINO.load(folder, "CPU", options)) as engine:
            replies = [list(engine.generate(Request(prompt, (), sampling))) for prompt in prompts]
        found.append([next(one.logprob for one in reply if getattr(one, "logprob", 0)).logprob for reply in replies])
    stock, kernel = (np.abs(np.subtract(one, found[0])).mean() for one in found[1:])
    assert len(set(found[0])) == len(prompts)
    assert 0 < kernel < 0.3
    assert 0 < stock < 0.3


def test_what_it_cannot_run_is_left_to_openvino(demo_folder):
    assert find_obstacle(demo_folder, "CPU", edge.Options()) == ""
    assert "GPU" in find_obstacle(demo_folder, "GPU", edge.Options())


def test_it_is_used_where_it_is_built_alone(demo_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path))
    assert library.find_library() is None
    with pytest.raises(BackendError, match="it is not built") as caught:
        edge.Model(demo_folder.path, device="CPU", options=edge.Options(int4_kernel=True))
    assert "edge kernel" in caught.value.hint


def test_edge_kernel_builds_it_and_removes_older_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path))
    old = tmp_path / "int4" / "int4_matmul-0123456789abcdef.so"
    old.parent.mkdir()
    old.write_bytes(b"older")
    assert main(["kernel"]) == 0
    assert "built and checked, with AVX" in capsys.readouterr().out
    assert [path.name for path in old.parent.iterdir()] == [library.library_name()]
    assert library.find_library() == old.with_name(library.library_name())


@pytest.mark.parametrize(
    ("compiler", "said"), [("no-such-compiler", "no C++ compiler no-such"), ("false", "cannot build")]
)
def test_a_compiler_that_does_not_work_is_one_line(tmp_path, monkeypatch, capsys, compiler, said):
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", compiler)
    assert main(["kernel"]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "hint: " in error
    assert list(tmp_path.rglob("*.so")) == []


def test_weights_that_stay_in_the_file_are_told_and_counted(built, demo_folder, tmp_path, capsys):
    """The recipe int4 has all its scales in products that the kernel computes."""
    mapped = find_mapped_weights(demo_folder, "CPU", edge.Options())
    assert mapped.groups == demo_folder.manifest.sizes.groups
    assert mapped.nbytes == mapped.groups * (GROUP // 2 + 2)
    for device, options in (("GPU", edge.Options()), ("CPU", edge.Options(int4_kernel=False))):
        assert find_mapped_weights(demo_folder, device, options) is None
    totals = []
    for options in (edge.Options(), edge.Options(int4_kernel=False)):
        LoadingProgress(demo_folder, "CPU", options, lambda report: totals.append(report.total)).finish()
    assert totals[1] - totals[0] == mapped.nbytes + 6 * mapped.groups
    assert main(["doctor", str(demo_folder.path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [fit["need"]["mapped"] for fit in facts["fits"] if fit["kind"] == "CPU"] == [mapped.nbytes]
    assert main(["doctor", str(demo_folder.path)]) == 0
    assert re.search(r"^device .* weights +mapped +KV", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("content", [b"", b"<net/>", b"<net><layers><layer/></layers></net>", None])
def test_a_damaged_graph_has_no_weights_to_count(tmp_path, content):
    path = tmp_path / "openvino_model.xml"
    if content is not None:
        path.write_bytes(content)
    assert count_weights(path) is None


def test_what_the_machine_has_of_the_kernel(built, tmp_path, monkeypatch):
    assert describe_kernel() == library.find_instructions(built)
    monkeypatch.setenv("EDGE_CACHE", str(tmp_path))
    assert describe_kernel().startswith("not built; `edge kernel`")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no C++ compiler no-such-compiler" in describe_kernel()
    old = tmp_path / "int4" / "int4_matmul-0123456789abcdef.so"
    old.parent.mkdir()
    old.write_bytes(b"older")
    assert "another version of OpenVINO" in describe_kernel()
    assert "run `edge kernel` again" in describe_kernel()
