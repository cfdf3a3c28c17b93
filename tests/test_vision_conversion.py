"""Conversion of GLM-4V-9B's architecture: recipes, sizes, verification, resumption, adapters, and what is rejected."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.check import layerwise, tower
from convert.check.ir_weights import read_ir
from convert.estimate import estimate_conversion
from convert.pipeline import convert
from convert.recipe import RECIPES
from edge.catalogue import get_entry
from edge.cli import main
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.device.memory import estimate
from runtime.errors import CheckpointError, ConversionError, RequestError, VerificationError
from runtime.folder.ir_files import DECODER, LANGUAGE, STUB, TABLE, TOWER
from runtime.folder.model_folder import ModelFolder

from .adapters import merged, random_adapter, write_adapter
from .glm4v import TinyVision, write_vision_checkpoint

PARTS = (LANGUAGE, TABLE, TOWER)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vision_checkpoint(tmp_path_factory.mktemp("checkpoint"), hidden=128, ffn=256)


@pytest.fixture(scope="module")
def int4(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return run(checkpoint, tmp_path_factory.mktemp("models") / "int4", "int4")


def run(source: Path, target: Path, recipe: str, **options: Any) -> ModelFolder:
    list(convert(source, target, recipe, **options))
    return ModelFolder.open(target)


def weight_types(folder: Path, name: str) -> dict[str, str]:
    """The type of each weight of an IR, by its name."""
    constants = [op for op in read_ir(folder / f"{name}.xml").get_ops() if op.get_type_name() == "Constant"]
    types = {op.get_friendly_name(): op.get_element_type().get_type_name() for op in constants}
    return {name: type for name, type in types.items() if name.endswith((".weight", ".bias", "oi", "_embedding"))}


def test_int4(int4: ModelFolder) -> None:
    """The decoder is in int4, table and head in int8, the tower's matrices in int8, all else exact."""
    path = int4.path
    decoder, table, vision = (weight_types(path, name) for name in PARTS)
    assert {decoder[name] for name in decoder if "_proj" in name and name.endswith("weight")} == {"i4"}
    assert (decoder["lm_head.weight"], set(table.values())) == ("u8", {"u8"})
    linear = {
        name for name in vision if name.endswith("weight") and not any(w in name for w in ("norm", "conv", "patch"))
    }
    assert len(linear) == 2 * 4 + 4
    assert {vision[name] for name in linear} == {"u8"}
    assert {type for name, type in vision.items() if "norm" in name or name.endswith("bias")} == {"f32"}
    kept = {name for name in vision if name not in linear and "norm" not in name and not name.endswith("bias")}
    assert {name.removeprefix("transformer.vision.") for name in kept} == {
        "patch_embedding.cls_embedding",
        "patch_embedding.proj.weight",
        "patch_embedding.position_embedding.weight",
        "conv.weight",
        "boi",
        "eoi",
    }
    assert {vision[name] for name in kept} == {"bf16"}


def test_folder(int4: ModelFolder, checkpoint: Path) -> None:
    """The folder is what GenAI opens, and its manifest what an engine needs to know."""
    found = {path.name for path in int4.path.iterdir()}
    assert {f"{name}.{end}" for name in (*PARTS, STUB) for end in ("xml", "bin")} <= found
    assert not [name for name in found if name.startswith(DECODER) or name.endswith(".jsonl")]
    assert json.loads((int4.path / "config.json").read_text()) == {"model_type": "llava", "hidden_size": 130}
    kept = json.loads((int4.path / "checkpoint_config.json").read_text())
    assert kept == json.loads((checkpoint / "config.json").read_text())
    manifest = int4.manifest
    assert (manifest.family, manifest.recipe, manifest.paged) == ("glm4v", "int4", True)
    vision = manifest.vision
    assert vision is not None
    assert (vision.tower, vision.image_size, vision.tokens, vision.shifts) == ("glm4v", 56, 6, 1)
    assert 0 < manifest.verification["tower_error"] < 0.2
    assert "vision model" in manifest.devices["NPU"]
    assert "for a picture" in manifest.devices["CPU"]
    int4.verify()


def test_sizes(int4: ModelFolder, checkpoint: Path) -> None:
    """Estimates are what is written: the tower's bytes, and those of all parts."""
    with CheckpointTensors.open(checkpoint) as tensors:
        found = estimate_conversion(tensors, RECIPES["int4"])
    files = {name: int4.manifest.files[f"{name}.bin"].size for name in PARTS}
    manifest = int4.manifest
    assert manifest.vision is not None
    assert manifest.vision.nbytes == found.tower
    for counted, written in ((found.tower, files[TOWER]), (found.sizes.weights, files[LANGUAGE] + files[TABLE])):
        assert counted <= written <= 1.02 * counted + 8192  # alignment, and the graphs' own constants
    assert sum(files.values()) <= found.disk
    need = estimate(manifest, "CPU", 1024)
    assert need.tower > manifest.vision.nbytes
    assert need.running == need.program + need.weights + need.kv_cache + need.activations + need.tower


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "tiny"),
    [
        ("int8", {"dtype": "f16"}),
        ("bf16", {"dtype": "mixed", "tied": True}),
        ("int4-mixed", {"dtype": "f32", "layers": 2, "hidden": 128, "ffn": 256}),
        ("int4-awq", {"hidden": 128, "ffn": 256}),
        ("int4-fit", {"hidden": 128, "ffn": 256}),
    ],
)
def test_recipes(recipe: str, tiny: dict[str, Any], tmp_path: Path) -> None:
    source = write_vision_checkpoint(tmp_path / "checkpoint", **tiny)
    found = run(source, tmp_path / "model", recipe)
    types = weight_types(found.path, TOWER)
    matrix = types["transformer.vision.linear_proj.gate_proj.weight"]
    if recipe == "bf16":
        assert found.manifest.verification["tower_error"] < 1e-5
        assert set(types.values()) == {"bf16", "f16", "f32"}
    else:
        assert matrix == "u8"
        assert found.manifest.verification["tower_error"] < 0.2


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("int4-npu", "is for NPUs, which is not supported for vision models"),
        ("nf4-npu", "is for NPUs"),
        ("int4-small", "has an embedding in int4"),
        ("stored", "this checkpoint has none"),
    ],
)
def test_rejected_recipes(recipe: str, message: str, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=message) as caught:
        run(checkpoint, tmp_path / "model", recipe)
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


def test_rejected_sources(checkpoint: Path, tmp_path: Path) -> None:
    """Other exporters write no towers."""
    from convert.source.optimum import reject_unsupported

    with (
        CheckpointTensors.open(checkpoint) as tensors,
        pytest.raises(ConversionError, match=r"optimum-intel is not installed|vision models are not supported"),
    ):
        reject_unsupported(tensors.architecture, RECIPES["int8"])
    folder = shutil.copytree(checkpoint, tmp_path / "onnx")
    (folder / "model.safetensors").unlink()
    (folder / "model.onnx").touch()
    with pytest.raises(ConversionError, match="an ONNX file of a vision model is not supported"):
        run(folder, tmp_path / "model", "int8")


def test_rejected_evaluation(int4: ModelFolder) -> None:
    from edge.evaluation.target import EvaluationTarget

    with pytest.raises(RequestError, match="vision models are not evaluated"):
        EvaluationTarget.open(int4.path)


@pytest.mark.slow
def test_a_large_model_is_checked_layer_by_layer(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, int4: ModelFolder
) -> None:
    """As in 9B, whose decoder is never loaded whole: the same figures, up to rounding."""
    monkeypatch.setattr(layerwise, "_WHOLE_MODEL_BYTES", 0)
    found = run(checkpoint, tmp_path / "model", "int4").manifest.verification
    for name, figure in int4.manifest.verification.items():
        assert found[name] == pytest.approx(figure, rel=1e-2, abs=1e-5)


def damaged_weight(folder: Path, name: str, change: Any) -> None:
    """Change the values of a stored tensor of a checkpoint."""
    from safetensors.numpy import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors[name] = change(tensors[name])
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("transformer.layers.1.mlp.fc1.weight", np.nan, "mlp.fc1.weight' in model.safetensors has NaN"),
        ("transformer.layers.0.attention.dense.weight", 0.0, "bytes of zeros in a row"),
        ("linear_proj.norm1.weight", 0.0, "is a norm of which"),
        ("conv.weight", np.inf, "has NaN or infinity"),
        ("boi", 0.0, "bytes of zeros in a row"),
    ],
)
def test_a_damaged_tower_is_rejected(name: str, value: float, message: str, tmp_path: Path) -> None:
    source = write_vision_checkpoint(tmp_path / "checkpoint", dtype="f32")
    damaged_weight(source, f"transformer.vision.{name}", lambda tensor: np.full_like(tensor, value))
    with pytest.raises((CheckpointError, VerificationError), match=message):
        run(source, tmp_path / "model", "bf16")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("patch_embedding.proj.weight", "patches"),
        ("transformer.layers.1.attention.dense.weight", "layer 1"),
        ("conv.weight", "convolution"),
        ("linear_proj.linear_proj.weight", "projection"),
        ("linear_proj.gate_proj.weight", "GLU"),
        ("boi", "ends"),
    ],
)
def test_wrong_weights_in_the_ir_are_found(
    name: str, stage: str, int4: ModelFolder, checkpoint: Path, tmp_path: Path
) -> None:
    """A tower whose weights are another's is rejected by the name of its stage."""
    path = shutil.copytree(int4.path, tmp_path / "model")
    model = read_ir(path / f"{TOWER}.xml")
    (constant,) = (op for op in model.get_ops() if op.get_friendly_name() == f"transformer.vision.{name}")
    data = constant.data.view(np.uint16).reshape(-1)
    raw = bytearray((path / f"{TOWER}.bin").read_bytes())
    start = raw.find(data.tobytes())
    assert start >= 0
    raw[start : start + data.nbytes] = np.random.default_rng(0).permutation(data).tobytes()
    del model, constant
    (path / f"{TOWER}.bin").write_bytes(raw)
    with (
        CheckpointTensors.open(checkpoint) as tensors,
        pytest.raises(VerificationError, match=f"the image tower's {stage} differs"),
    ):
        list(tower.check_tower(path, tensors, RECIPES["int4"]))


@pytest.mark.slow
def test_an_interrupted_conversion_resumes(checkpoint: Path, int4: ModelFolder, tmp_path: Path) -> None:
    """In whatever part it was: the same bytes in the end, and no finished weight is compressed again."""
    with CheckpointTensors.open(checkpoint) as tensors:
        count = len(tensors.names)
    for finished in (3, count - 3):  # in the decoder, and in the tower
        steps = convert(checkpoint, tmp_path / "model", "int4")
        compressed = 0
        while compressed <= finished:
            compressed += next(steps).name == "compress"
        (partial,) = tmp_path.glob(".model.partial-*")
        shutil.copytree(partial, tmp_path / ".model.partial-4000000-1")  # no process has this number
        steps.close()
        found = run(checkpoint, tmp_path / "model", "int4")
        for name in PARTS:
            assert found.manifest.files[f"{name}.bin"] == int4.manifest.files[f"{name}.bin"]
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
        shutil.rmtree(tmp_path / "model")


def test_adapters(tmp_path: Path) -> None:
    """An adapter of the decoder is merged; one of the tower is rejected by name."""
    tiny = TinyVision(layers=1, dtype="f32")
    source = write_vision_checkpoint(tmp_path / "checkpoint", dtype="f32")
    own = random_adapter(tiny._as_chatglm(tiny.weights()), ".*query_key_value|.*dense_h_to_4h")
    adapter = write_adapter(tmp_path / "adapter", own)
    found = run(source, tmp_path / "model", "bf16", adapters=[str(adapter)])
    assert found.manifest.adapters[0].name == "adapter"
    expected = merged(tiny.stored(), own)["transformer.encoder.layers.0.mlp.dense_h_to_4h.weight"]
    model = read_ir(found.path / f"{LANGUAGE}.xml")
    (constant,) = (op for op in model.get_ops() if op.get_friendly_name() == "model.layers.0.mlp.gate_up_proj.weight")
    assert np.abs(constant.data - expected).max() < 1e-5
    names = {f"transformer.vision.{name}": value for name, value in tiny.tower_weights().items()}
    of_tower = write_adapter(tmp_path / "tower", random_adapter(names, r".*linear_proj\.gate_proj"))
    with pytest.raises(CheckpointError, match=r"gate_proj\S+ of the adapter tower belongs to no tensor"):
        run(source, tmp_path / "other", "bf16", adapters=[str(of_tower)])


def test_commands(int4: ModelFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """`edge inspect`, `edge doctor` and `edge models` count the tower."""
    assert main(["inspect", str(int4.path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["vision"]["nbytes"] > 0
    assert main(["inspect", str(int4.path)]) == 0
    assert "6 tokens each, resized to 56 x 56; an image tower of" in " ".join(capsys.readouterr().out.split())
    assert main(["doctor", str(int4.path), "--json"]) == 0
    fits = json.loads(capsys.readouterr().out)["fits"]
    assert all(fit["need"]["tower"] > 0 for fit in fits)
    assert main(["doctor", str(int4.path)]) == 0
    assert "pictures" in capsys.readouterr().out


def test_recipes_of_a_vision_model(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that would be rejected are not listed, and the disk counts the tower."""
    assert main(["recipes", "glm-4v-9b", "--json"]) == 0
    found = {recipe["name"]: recipe["disk"]["glm-4v-9b"] for recipe in json.loads(capsys.readouterr().out)}
    assert found.keys() == RECIPES.keys() - {"int4-npu", "nf4-npu", "int4-small", "stored"}
    assert found["bf16"] == pytest.approx(2 * 13.9e9, rel=0.01)
    assert main(["models", "glm-4v-9b", "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert {name: sizes["disk"] for name, sizes in facts["recipes"].items()} == found
    assert main(["recipes", str(checkpoint)]) == 0


def test_catalogue() -> None:
    """glm-4v-9b has the published number of values, of which a third are the tower's."""
    entry = get_entry("glm-4v-9b")
    vision = entry.architecture.vision
    assert vision is not None
    assert sum(np.prod(shape, dtype=np.int64) for _, shape in vision.shapes()) == 4_506_369_536
    assert len(list(vision.shapes())) == 770
    chat = get_entry("glm-4-9b-chat")
    assert 4.5e9 < entry.disk_bytes("int4") - chat.disk_bytes("int4") < 4.7e9
    assert 9.0e9 < entry.disk_bytes("bf16") - chat.disk_bytes("bf16") < 9.1e9
    assert entry.memory_bytes("int4") - chat.memory_bytes("int4") > 4.5e9
