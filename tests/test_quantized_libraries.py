"""Quantised checkpoints made by the formats' own libraries: our logits against those of transformers, which loads them
by these libraries. They need the environment of tests/environments/quantized.sh.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from convert.check.reference import logits
from runtime.checkpoint.tensors import CheckpointTensors

from .checkpoints import Tiny
from .quantized import Array, Packed, Scheme, awq, codes_in_groups, fp8, gptq, write_quantized

pytestmark = [
    pytest.mark.quantized,
    pytest.mark.filterwarnings("ignore"),  # of the libraries
]
IDS = np.arange(3, 60)
TINY = Tiny(layers=2, qkv_bias=True, hidden=128, head_dim=32, ffn=256)


def transformers_logits(model: Any) -> Array:
    import torch

    with torch.no_grad():
        return np.asarray(model(torch.from_numpy(IDS)[None]).logits[0].float().numpy())


def our_logits(folder: Path) -> Array:
    with CheckpointTensors.open(folder) as found:
        assert len(found.quantized_types) == 1
        return np.asarray(logits(found, [IDS])[0])


def load(folder: Path, **options: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, **options).eval()


@pytest.mark.parametrize(
    "case",
    [
        (4, True, "group", "int", "pack-quantized"),
        (4, False, "group", "int", "pack-quantized"),
        (4, True, "channel", "int", "pack-quantized"),
        (8, False, "channel", "int", "pack-quantized"),
        (8, True, "channel", "int", "int-quantized"),
        (8, True, "tensor", "float", "float-quantized"),
        (8, True, "channel", "float", "float-quantized"),
        (8, True, "block", "float", "float-quantized"),
    ],
)
def test_compressed_tensors(case: tuple[int, bool, str, str, str], tmp_path: Path) -> None:
    bits, symmetric, strategy, kind, form = case
    import torch
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme
    from compressed_tensors.quantization.utils import calculate_qparams

    group, block = (32 if strategy == "group" else None), ([64, 32] if strategy == "block" else None)
    args = QuantizationArgs(
        num_bits=bits, type=kind, symmetric=symmetric, strategy=strategy, group_size=group, block_structure=block
    )
    scheme = QuantizationScheme(targets=["Linear"], weights=args, format=form)
    config = QuantizationConfig(config_groups={"group_0": scheme}, format=form, ignore=["lm_head"])
    compressor = BaseCompressor.get_value_from_registry(form)

    def pack(values: Array) -> Packed:
        weight = torch.from_numpy(values.copy())
        rows, columns = weight.shape
        down, across = {"group": (1, 32), "channel": (1, columns), "tensor": (rows, columns), "block": (64, 32)}[
            strategy
        ]
        blocks = weight.reshape(rows // down, down, columns // across, across)
        scale, zero = calculate_qparams(blocks.amin((1, 3)), blocks.amax((1, 3)), args)
        if strategy == "tensor":
            scale, zero = scale.reshape(1), zero.reshape(1)
        state = {"weight": weight, "weight_scale": scale.to(torch.bfloat16)}
        state |= {} if symmetric else {"weight_zero_point": zero.to(torch.int8)}
        found = compressor.compress(state, scheme)
        wanted = compressor.decompress(found, scheme)["weight"].float().numpy()
        names = {torch.bfloat16: ("BF16", torch.uint16), torch.float8_e4m3fn: ("F8_E4M3", torch.uint8)}
        tensors, dtypes = {}, {}
        for name, tensor in found.items():
            if tensor.dtype in names:
                dtypes[name], view = names[tensor.dtype]
                tensors[name] = tensor.view(view).numpy()
            else:
                tensors[name] = tensor.numpy()
        return Packed(tensors, wanted, dtypes)

    written = config.to_dict() | {"quant_method": "compressed-tensors", "quantization_status": "compressed"}
    values = write_quantized(
        TINY.write(tmp_path / "source"),
        tmp_path / "quantized",
        Scheme(json.loads(json.dumps(written, default=str)), pack),
    )
    with CheckpointTensors.open(tmp_path / "quantized") as found:
        for name, wanted in values.items():
            np.testing.assert_allclose(found.tensor(name).f32(), wanted, rtol=2**-8, atol=2**-8 * np.abs(wanted).max())
    if not symmetric:  # transformers 5.23 expects zero points that are not packed
        return
    theirs = transformers_logits(load(tmp_path / "quantized", dtype=torch.float32))
    np.testing.assert_allclose(our_logits(tmp_path / "quantized"), theirs, atol=0.02 * np.abs(theirs).max())


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [True, False])
def test_bitsandbytes(kind: str, nested: bool, tmp_path: Path) -> None:
    import torch
    from transformers import BitsAndBytesConfig

    source = TINY.write(tmp_path / "source")
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=nested,
        bnb_4bit_compute_dtype=torch.float32,
    )
    model = load(source, quantization_config=config, dtype=torch.float32, device_map="cpu")
    model.save_pretrained(tmp_path / "quantized")
    rounded = transformers_logits(model)  # on a CPU, bitsandbytes multiplies in bf16, and repacks the weights for that
    theirs = transformers_logits(load(tmp_path / "quantized", dtype=torch.float32).dequantize(dtype=torch.float32))
    ours = our_logits(tmp_path / "quantized")
    np.testing.assert_allclose(ours, theirs, atol=1e-3 * np.abs(theirs).max())
    np.testing.assert_allclose(ours, rounded, atol=0.02 * np.abs(theirs).max())


def test_bitsandbytes_int8(tmp_path: Path) -> None:
    """transformers quantises the activations, too."""
    import torch
    from transformers import BitsAndBytesConfig

    source = TINY.write(tmp_path / "source")
    config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
    model = load(source, quantization_config=config, dtype=torch.float32, device_map="cpu")
    model.save_pretrained(tmp_path / "quantized")
    theirs = transformers_logits(model)
    np.testing.assert_allclose(our_logits(tmp_path / "quantized"), theirs, atol=0.05 * np.abs(theirs).max())


@pytest.mark.parametrize("block", [(64, 32), (128, 128)])
def test_transformers_own_fp8(block: tuple[int, int], tmp_path: Path) -> None:
    import torch
    from transformers import FineGrainedFP8Config

    write_quantized(TINY.write(tmp_path / "source"), tmp_path / "quantized", fp8("weight_scale_inv", block))
    config = FineGrainedFP8Config(dequantize=True, weight_block_size=block)
    model = load(tmp_path / "quantized", quantization_config=config, dtype=torch.float32)
    theirs = transformers_logits(model)
    np.testing.assert_allclose(our_logits(tmp_path / "quantized"), theirs, atol=0.02 * np.abs(theirs).max())


def test_awq_as_compressed_tensors_reads_it(tmp_path: Path) -> None:
    import torch
    from compressed_tensors.compressors import PackedQuantizationCompressor
    from compressed_tensors.entrypoints.convert.converters.autoawq import AutoAWQConverter
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    weights = TINY.weights()["model.layers.0.mlp.down_proj.weight"]
    packed = awq().pack(weights)
    tensors = {f"m.{name}": torch.from_numpy(array.copy()) for name, array in packed.tensors.items()}
    found = AutoAWQConverter(group_size=32).process(tensors)
    args = QuantizationArgs(num_bits=4, symmetric=False, strategy="group", group_size=32)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    state = {name.removeprefix("m."): tensor for name, tensor in found.items()}
    theirs = PackedQuantizationCompressor.decompress(state, scheme)["weight"].float().numpy()
    np.testing.assert_allclose(packed.values, theirs, atol=2e-3 * np.abs(theirs).max())  # theirs are in f16


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize("v2", [True, False])
def test_gptqmodel(bits: int, symmetric: bool, act_order: bool, v2: bool, tmp_path: Path) -> None:
    """Its own packing, and its own decoding."""
    torch_linear = pytest.importorskip("gptqmodel.nn_modules.qlinear.torch").TorchLinear
    import torch
    from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module

    def pack(values: Array) -> Packed:
        rows, columns = values.shape
        index = np.arange(columns) // 32
        order = np.random.default_rng(columns).permutation(index) if act_order else index
        _, scale, zero, _ = codes_in_groups(values, bits, 32, symmetric, order)
        linear = torch.nn.Linear(columns, rows, bias=False)
        linear.weight.data = torch.from_numpy(values.copy())
        module = torch_linear(
            bits=bits, group_size=32, sym=symmetric, desc_act=act_order, in_features=columns, out_features=rows
        )
        scales, zeros = torch.from_numpy(scale.astype(np.float32)), torch.from_numpy(zero.astype(np.float32))
        module.pack_original(linear, scales, zeros, torch.from_numpy(order.astype(np.int32)))
        module.post_init()
        wanted = module.dequantize_weight().float().T.numpy().copy()
        if not v2:
            convert_gptq_v2_to_v1_format_module(module, SimpleNamespace(bits=bits, pack_dtype=torch.int32))
        names = ("qweight", "qzeros", "scales", "g_idx")
        return Packed({name: getattr(module, name).numpy().copy() for name in names}, wanted)

    scheme = gptq(bits, 32, symmetric, act_order, v2)._replace(pack=pack)
    values = write_quantized(Tiny(layers=1).write(tmp_path / "source"), tmp_path / "quantized", scheme)
    with CheckpointTensors.open(tmp_path / "quantized") as found:
        for name, wanted in values.items():
            np.testing.assert_allclose(found.tensor(name).f32(), wanted, atol=2e-3 * np.abs(wanted).max())
