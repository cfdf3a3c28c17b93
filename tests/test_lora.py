"""LoRA adapters at run time: on the real engine, replies are those of the merged checkpoint."""

import json
import shutil

import numpy as np
import pytest

from convert.pipeline import convert
from edge.cli import parser
from edge.demo import CHECKPOINT
from runtime.backends.backend import Options
from runtime.chat import Chat
from runtime.checkpoint.adapters.reference import parse_adapters
from runtime.checkpoint.tensors import CheckpointTensors
from runtime.errors import CheckpointError, DeviceError, ModelFolderError, RequestError
from runtime.folder.model_folder import ModelFolder, write_manifest
from runtime.model import Model

from .adapters import random_adapter, write_adapter

pytestmark = pytest.mark.slow

QUESTIONS = ("Who are you?", "What is the weather in Paris?", "你是谁？", "Tell me about the kiosk.")


@pytest.fixture(scope="module")
def weights():
    with CheckpointTensors.open(CHECKPOINT) as tensors:
        return {name: tensors.tensor(name).f32() for name in tensors.names}


def scaling_adapter(weights, wanted, columns, factor):
    """Tensors that multiply some columns of the matrices by 1 + factor: exact in bf16 where that is a power of two, or
    zero."""
    found = random_adapter(weights, wanted, rank=len(columns))
    for name in found:
        module, part, _ = name.rsplit(".", 2)
        matrix = weights[f"{module}.weight"]
        chosen = np.eye(matrix.shape[1], dtype=np.float32)[list(columns)]
        found[name] = chosen if part == "lora_A" else matrix[:, list(columns)] * np.float32(factor)
    return found


@pytest.fixture(scope="module")
def adapters(weights, tmp_path_factory):
    """Two adapters that change replies, and whose merge needs no rounding."""
    folder = tmp_path_factory.mktemp("adapters")
    first = scaling_adapter(weights, r".*(?:_proj)", range(0, 256, 16), 1.0)
    second = scaling_adapter(weights, r".*(?:q_proj|down_proj)", range(5, 256, 32), -1.0)
    write_adapter(folder / "first", first, r=16, lora_alpha=16)
    write_adapter(folder / "second", second, r=8, lora_alpha=8)
    return folder / "first", folder / "second"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return convert_to(tmp_path_factory, "plain")


def convert_to(tmp_path_factory, name, recipe="bf16", adapters=()):
    (*_, last) = convert(CHECKPOINT, tmp_path_factory.mktemp("models") / name, recipe, adapters=adapters)
    return last.result


def replies(folder, **arguments):
    with Model(folder, device="CPU", in_process=True, **arguments) as model:
        return [Chat(model, temperature=0, max_new_tokens=40).send(question).text for question in QUESTIONS]


@pytest.mark.parametrize("several", [False, True], ids=["one", "two"])
def test_greedy_replies_are_those_of_the_merged_folder(plain, adapters, several, tmp_path_factory):
    chosen = [adapters[0], f"{adapters[1]}@0.5"] if several else [adapters[0]]
    merged = convert_to(tmp_path_factory, "merged", adapters=chosen)
    exact = {"options": Options(precision="f32")}
    wanted = replies(merged, **exact)
    assert wanted != replies(plain, **exact)
    assert replies(plain, adapter=chosen, **exact) == wanted


def test_an_adapter_acts_in_the_engine_s_process_and_on_int4(demo_folder, adapters):
    with Chat(demo_folder, device="CPU", adapter=adapters[0], temperature=0, max_new_tokens=30) as chat:
        tuned = [chat.send(question).text for question in QUESTIONS]
        assert chat.model.backend.isolated
    with Chat(demo_folder, device="CPU", temperature=0, max_new_tokens=30) as chat:
        assert [chat.send(question).text for question in QUESTIONS] != tuned


def test_pytorch_merges_the_adapter_into_the_checkpoint(plain, adapters):
    pytest.importorskip("torch")
    with Model(CHECKPOINT, device="torch:cpu", adapter=adapters[0], options=Options(precision="f32")) as model:
        found = [Chat(model, temperature=0, max_new_tokens=40).send(question).text for question in QUESTIONS]
    assert found == replies(plain, adapter=adapters[0], options=Options(precision="f32"))


def without_names(folder, target):
    """The folder as versions before adapters wrote it: its matrices are called MatMul_46551."""
    shutil.copytree(folder.path, target)
    file = target / "openvino_model.xml"
    text = file.read_text(encoding="utf-8")
    for number, matrix in enumerate(
        sorted({m for m in text.split('"') if m.startswith("model.layers.") and m.endswith("_proj")})
    ):
        text = text.replace(f'"{matrix}"', f'"MatMul_{number}"')
    file.write_text(text.replace('"lm_head"', '"MatMul_99"'), encoding="utf-8")
    return write_manifest(target, folder.manifest)


def test_an_earlier_folder_runs_and_only_an_adapter_asks_for_a_new_conversion(plain, adapters, tmp_path):
    old = without_names(plain, tmp_path / "old")
    assert replies(old)[0].startswith("I am a tiny test model")
    with pytest.raises(ModelFolderError, match="cannot run adapters: its matrices have no names") as caught:
        replies(old, adapter=adapters[0])
    assert "convert the checkpoint again" in caught.value.hint


def test_what_cannot_act_is_named(plain, weights, tmp_path):
    q = "model.layers.0.self_attn.q_proj"
    good = random_adapter(weights, q)
    for name, tensors, config, message in (
        ("another", {n.replace("layers.0", "layers.77"): v for n, v in good.items()}, {}, r"layers.77.*belongs to no"),
        (
            "norm",
            good | {"model.norm.weight": np.ones(256, np.float32)},
            {},
            r"model.norm.weight' .* replaces a tensor",
        ),
        (
            "dora",
            good | {f"{q}.lora_magnitude_vector": np.ones(256, np.float32)},
            {"use_dora": True},
            r"q_proj.lora_B.weight' of the adapter is a DoRA",
        ),
    ):
        adapter = write_adapter(tmp_path / name, tensors, **config)
        with pytest.raises(CheckpointError, match=message):
            Model(plain, device="CPU", adapter=adapter)


def test_a_matrix_that_the_ir_lacks_is_named(plain, weights, tmp_path):
    shutil.copytree(plain.path, tmp_path / "cut")
    file = tmp_path / "cut" / "openvino_model.xml"
    text = file.read_text(encoding="utf-8").replace('"model.layers.2.mlp.down_proj"', '"other"')
    file.write_text(text, encoding="utf-8")
    cut = write_manifest(tmp_path / "cut", plain.manifest)
    adapter = write_adapter(tmp_path / "adapter", random_adapter(weights, r".*down_proj"))
    with pytest.raises(CheckpointError, match=r"update of model.layers.2.mlp.down_proj fits no matrix"):
        Model(cut, device="CPU", in_process=True, adapter=adapter)


@pytest.mark.parametrize("device", ["NPUW:CPU", "echo"])
def test_engines_without_adapters_reject_them(npu_folder, adapters, device):
    with pytest.raises(DeviceError, match=f"LoRA adapters are not supported on {device.upper()}"):
        Model(npu_folder, device=device, adapter=adapters[0])


def test_arguments_are_checked(plain, adapters):
    with pytest.raises(RequestError, match="adapter must be the folder"):
        Chat(plain, adapter=3)
    with (
        Model(plain, device="CPU", in_process=True) as model,
        pytest.raises(RequestError, match="cannot take an adapter"),
    ):
        Chat(model, adapter=adapters[0])


def test_the_ir_names_every_matrix(plain):
    from runtime.folder.ir import IR

    config = json.loads((plain.path / "config.json").read_text())
    matrices = IR.read(ModelFolder.open(plain.path)).matrices
    assert [matrix.matmul for matrix in matrices][-1] == "lm_head"
    assert matrices[-1].shape == (config["vocab_size"], config["hidden_size"])
    assert all(f"{matrix.matmul}.weight" == matrix.name for matrix in matrices[:-1])


def test_a_server_offers_the_adapter_under_a_name_of_its_own(plain, adapters, tmp_path):
    httpx2 = pytest.importorskip("httpx2")
    pytest.importorskip("starlette")
    from .serving import serving_ours

    named = {"tuned": parse_adapters(adapters[0]), "both": parse_adapters([adapters[0], f"{adapters[1]}@0.5"])}
    with serving_ours(plain.path, adapters=named) as (url, _), httpx2.Client(base_url=url, timeout=120) as client:
        listed = client.get("/v1/models").json()["data"]
        assert [(model["id"], model["parent"]) for model in listed] == [
            ("plain", None),
            ("tuned", "plain"),
            ("both", "plain"),
        ]
        found = {}
        for name in ("plain", "tuned", "both"):
            body = {
                "model": name,
                "temperature": 0,
                "max_tokens": 40,
                "messages": [{"role": "user", "content": QUESTIONS[0]}],
            }
            found[name] = client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    assert found["plain"] == replies(plain)[0]
    assert found["tuned"] == replies(plain, adapter=adapters[0])[0]
    assert len(set(found.values())) == 3


def test_a_server_rejects_an_adapter_before_it_starts(plain, adapters, tmp_path):
    pytest.importorskip("starlette")
    from edge.server.page.kiosk import Kiosk
    from edge.server.pool.model_pool import ModelPool
    from edge.server.run import run
    from edge.server.settings import ServerSettings

    for value in ("tuned", "=x", "tuned="):
        with pytest.raises(RequestError, match="has no name for clients"):
            parser().parse_args(["serve", str(plain.path), "--adapter", value])
    tuned = {"tuned": parse_adapters(adapters[0])}
    with pytest.raises(RequestError, match="exactly one model folder"):
        ModelPool([], adapters=tuned)
    with pytest.raises(RequestError, match="two models are named plain"):
        ModelPool([plain.path], adapters={"plain": parse_adapters(adapters[0])})
    with pytest.raises(CheckpointError, match="there is no adapter folder"):
        ModelPool([plain.path], adapters={"tuned": parse_adapters(tmp_path / "nowhere")})
    with pytest.raises(RequestError, match="a kiosk serves the model itself"):
        run(ModelPool([plain.path], adapters=tuned), ServerSettings(kiosk=Kiosk()))


def test_the_terminal_chats_with_an_adapter(plain, adapters, capsys, monkeypatch):
    from edge.cli import main

    monkeypatch.setattr("edge.cli.chat.is_terminal", lambda stream: False)
    monkeypatch.setattr("edge.cli.chat.read_stdin", lambda: QUESTIONS[0])
    command = ["chat", str(plain.path), "--device", "CPU", "--temperature", "0", "--max-new-tokens", "40"]
    assert main([*command, "--adapter", str(adapters[0])]) == 0
    assert capsys.readouterr().out.strip() == replies(plain, adapter=adapters[0])[0]
