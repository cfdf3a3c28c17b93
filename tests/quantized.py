"""Quantised checkpoints in the layouts of GPTQ, AWQ, compressed-tensors, FP8 and bitsandbytes, packed with numpy."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.checkpoint.files.safetensors_file import SafetensorsFile
from runtime.checkpoint.quantized.scaled import fp8_values

from .checkpoints import write_safetensors

Array = np.ndarray[Any, Any]
Stored = dict[str, tuple[str, Array]]  # by suffix: safetensors' dtype, and the values
DTYPES = {"float32": "F32", "float16": "F16", "int32": "I32", "int64": "I64", "int8": "I8", "uint8": "U8"}
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
NF4 = np.array(  # the quantiles of QLoRA, https://arxiv.org/abs/2305.14314, appendix E
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
        *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
        *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ],
    np.float32,
)


class Packed(NamedTuple):
    """A quantised matrix: the tensors of its module by suffix, and the values that they stand for."""

    tensors: dict[str, Array]
    values: Array
    dtypes: Mapping[str, str] = {}  # safetensors' names where numpy has none


Pack = Callable[[Array], Packed]


class Scheme(NamedTuple):
    """A quantisation: the config.json's entry, how a matrix is packed, and whether OpenVINO has its form."""

    config: dict[str, Any]
    pack: Pack
    kept: bool = True


def codes_in_groups(
    values: Array, bits: int, group: int, symmetric: bool, order: Array | None = None
) -> tuple[Array, Array, Array, Array]:
    """Codes (rows, columns), scales and zero points (rows, groups), and the values that they stand for."""
    index = np.arange(values.shape[1]) // group if order is None else order
    scale, zero = np.empty((len(values), index.max() + 1), np.float16), np.empty((len(values), index.max() + 1), int)
    for number in range(index.max() + 1):
        part = values[:, index == number]
        low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
        largest = np.maximum(-low, high)
        scale[:, number] = 2 * largest / (2**bits - 1) if symmetric else (high - low) / (2**bits - 1)
        zero[:, number] = 2 ** (bits - 1) if symmetric else np.clip(np.round(-low / scale[:, number]), 0, 2**bits - 1)
    wide, shift = scale.astype(np.float32)[:, index], zero[:, index]
    codes = np.clip(np.round(values / wide) + shift, 0, 2**bits - 1).astype(int)
    return codes, scale, zero, ((codes - shift) * wide).astype(np.float32)


def words(codes: Array, bits: int) -> Array:
    """Pack codes (n, m) -> I32 (n, m * bits / 32), the first in the lowest bits."""
    per = 32 // bits
    parts = codes.reshape(len(codes), -1, per).astype(np.uint64) << np.arange(0, 32, bits, dtype=np.uint64)
    return np.asarray(parts.sum(-1).astype(np.uint32).view(np.int32))


def gptq(bits: int = 4, group: int = 32, symmetric: bool = True, act_order: bool = False, v2: bool = False) -> Scheme:
    def pack(values: Array) -> Packed:
        columns = values.shape[1]
        size = columns if group == -1 else group
        index = np.arange(columns) // size
        order = np.random.default_rng(columns).permutation(index) if act_order else index
        codes, scale, zero, wanted = codes_in_groups(values, bits, size, symmetric, order)
        points = words(zero.T, bits).view(np.uint32)
        points = points if v2 else points - np.uint32({4: 0x11111111, 8: 0x01010101}[bits])
        tensors = {
            "qweight": words(codes, bits).T,
            "qzeros": points.view(np.int32),
            "scales": scale.T,
            "g_idx": order.astype(np.int32),
        }
        return Packed(tensors, wanted)

    config = {"quant_method": "gptq", "bits": bits, "group_size": group, "sym": symmetric, "desc_act": act_order}
    return Scheme(config | {"checkpoint_format": "gptq_v2" if v2 else "gptq"}, pack, not act_order)


def awq(group: int = 32) -> Scheme:
    def pack(values: Array) -> Packed:
        codes, scale, zero, wanted = codes_in_groups(values, 4, group, symmetric=False)

        def reordered(array: Array) -> Array:
            return words(array.T.reshape(array.shape[1], -1, 8)[:, :, AWQ_ORDER].reshape(array.shape[1], -1), 4)

        return Packed({"qweight": reordered(codes), "qzeros": reordered(zero), "scales": scale.T}, wanted)

    config = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm"}
    return Scheme(config, pack)


def compressed(
    bits: int = 4, group: int = 32, symmetric: bool = True, act_order: bool = False, packed: bool = True
) -> Scheme:
    half = 1 << (bits - 1)

    def pack(values: Array) -> Packed:
        rows, columns = values.shape
        size = columns if group == -1 else group
        index = np.arange(columns) // size
        order = np.random.default_rng(columns).permutation(index) if act_order else index
        codes, scale, zero, wanted = codes_in_groups(values, bits, size, symmetric, order)
        if not packed:
            tensors: dict[str, Array] = {"weight": (codes - half).astype(np.int8), "weight_scale": scale}
            return Packed(
                tensors if symmetric else tensors | {"weight_zero_point": (zero - half).astype(np.int8)}, wanted
            )
        tensors = {
            "weight_packed": words(codes, bits),
            "weight_scale": scale,
            "weight_shape": np.array([rows, columns], np.int64),
        }
        if not symmetric:
            padded = np.pad(zero, ((0, -rows % (32 // bits)), (0, 0)))
            tensors["weight_zero_point"] = words(padded.T, bits).T
        return Packed(tensors | ({"weight_g_idx": order.astype(np.int32)} if act_order else {}), wanted)

    weights = {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": "group", "group_size": group}
    return Scheme(
        {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized" if packed else "int-quantized",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
            "ignore": ["lm_head"],
        },
        pack,
        not act_order,
    )


def fp8(name: str = "weight_scale", block: tuple[int, int] | None = None, rows: bool = False) -> Scheme:
    table = fp8_values("F8_E4M3")
    finite = np.flatnonzero(np.isfinite(table))
    finite = finite[np.argsort(table[finite], kind="stable")]

    def pack(values: Array) -> Packed:
        down, across = block or ((1, values.shape[1]) if rows else values.shape)
        padded = np.pad(values, [(0, -n % size) for n, size in zip(values.shape, (down, across), strict=True)])
        blocks = np.abs(padded).reshape(padded.shape[0] // down, down, -1, across).max((1, 3))
        scale = (blocks / 448).astype(np.float32)
        wide = scale.repeat(down, 0).repeat(across, 1)[: values.shape[0], : values.shape[1]]
        middle = (table[finite][1:] + table[finite][:-1]) / 2
        codes = finite[np.searchsorted(middle, values / wide)].astype(np.uint8)
        stored = scale if block or rows else scale.reshape(1)
        return Packed({"weight": codes, name: stored}, table[codes] * wide, {"weight": "F8_E4M3"})

    config: dict[str, Any] = {"quant_method": "fp8" if name.endswith("inv") or block else "compressed-tensors"}
    if block:
        config["weight_block_size"] = list(block)
    return Scheme(config | ({} if block else {"format": "float-quantized"}), pack, kept=False)


def bitsandbytes(block: int = 64, nested: bool = True) -> Scheme:
    def pack(values: Array) -> Packed:
        flat = values.reshape(-1)
        padded = np.pad(flat, (0, -len(flat) % block)).reshape(-1, block)
        absmax = np.abs(padded).max(1).astype(np.float32)
        codes = np.abs((padded / absmax[:, None])[..., None] - NF4).argmin(-1).astype(np.uint8)
        tensors: dict[str, Array] = {"weight.quant_map": NF4}
        state: dict[str, Any] = {"quant_type": "nf4", "blocksize": block, "dtype": "bfloat16", "shape": values.shape}
        if nested:
            table = np.linspace(-1, 1, 256).astype(np.float32)
            offset = float(absmax.mean())
            around = np.pad(absmax - np.float32(offset), (0, -len(absmax) % 256)).reshape(-1, 256)
            largest = np.abs(around).max(1)
            inner = np.abs((around / largest[:, None])[..., None] - table).argmin(-1).astype(np.uint8)
            absmax = (table[inner] * largest[:, None] + np.float32(offset)).reshape(-1)[: len(absmax)]
            state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": offset}
            tensors |= {"weight.absmax": inner.reshape(-1)[: len(absmax)], "weight.nested_absmax": largest}
            tensors |= {"weight.nested_quant_map": table}
        else:
            tensors["weight.absmax"] = absmax
        encoded = np.frombuffer(json.dumps(state).encode(), np.uint8)
        even = codes.reshape(-1)[: len(flat)]
        tensors["weight"] = (even[::2] << 4 | even[1::2]).reshape(-1, 1)
        tensors["weight.quant_state.bitsandbytes__nf4"] = encoded
        wanted = (NF4[codes] * absmax[:, None]).reshape(-1)[: len(flat)].reshape(values.shape)
        return Packed(tensors, wanted.astype(np.float32))

    return Scheme({"quant_method": "bitsandbytes", "load_in_4bit": True}, pack, kept=False)


def bitsandbytes_int8() -> Scheme:
    def pack(values: Array) -> Packed:
        largest = np.abs(values).max(1).astype(np.float32)
        codes = np.round(values / largest[:, None] * 127).astype(np.int8)
        tensors = {"weight": codes, "SCB": largest, "weight_format": np.array(0, np.uint8)}
        return Packed(tensors, codes * (largest / 127)[:, None])

    return Scheme({"quant_method": "bitsandbytes", "load_in_8bit": True}, pack)


SCHEMES: dict[str, Scheme] = {
    "GPTQ": gptq(),
    "GPTQ, asymmetric": gptq(symmetric=False),
    "GPTQ, by channel": gptq(group=-1),
    "GPTQ, groups of 16": gptq(group=16, symmetric=False, v2=True),
    "GPTQ v2": gptq(v2=True),
    "GPTQ, 8 bits": gptq(bits=8),
    "GPTQ, 8 bits, asymmetric": gptq(bits=8, symmetric=False),
    "GPTQ, reordered": gptq(symmetric=False, act_order=True),
    "AWQ": awq(),
    "compressed-tensors": compressed(),
    "compressed-tensors, asymmetric": compressed(symmetric=False),
    "compressed-tensors, by channel": compressed(group=-1),
    "compressed-tensors, 8 bits": compressed(bits=8, group=-1, symmetric=False),
    "compressed-tensors, reordered": compressed(act_order=True),
    "compressed-tensors, int8": compressed(bits=8, group=-1, packed=False),
    "compressed-tensors, int8, asymmetric": compressed(bits=8, group=-1, symmetric=False, packed=False),
    "FP8, a tensor": fp8(),
    "FP8, a row": fp8(rows=True),
    "FP8, a block": fp8("weight_scale_inv", (64, 48)),
    "bitsandbytes": bitsandbytes(),
    "bitsandbytes, not nested": bitsandbytes(nested=False),
    "bitsandbytes, blocks across rows": bitsandbytes(block=128),
    "bitsandbytes, int8": bitsandbytes_int8(),
}


def write_quantized(
    source: Path, folder: Path, scheme: Scheme, *, shards: int = 1, split: bool = False
) -> dict[str, Array]:
    """Write the checkpoint `source` into `folder` with the matrices of its layers quantised; return the values of all
    tensors. A module's tensors are spread over the `shards`. `split` stores gate and up as two modules."""
    folder.mkdir(parents=True)
    for file in source.iterdir():
        if file.suffix != ".safetensors" and file.is_file():
            shutil.copy(file, folder)
    config = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": scheme.config}))
    tensors: list[tuple[str, str, tuple[int, ...], bytes]] = []
    values: dict[str, Array] = {}
    for path in sorted(source.glob("*.safetensors")):
        file = SafetensorsFile.open(path)
        for name, entry in file.entries.items():
            found = file.tensor(entry, name).f32()
            if found.ndim == 1 or ".layers." not in name:
                tensors.append((name, "F32", found.shape, found.tobytes()))
                values[name] = found
                continue
            module = name.removesuffix(".weight")
            parts = {module: found}
            if split and module.endswith("gate_up_proj"):
                half = len(found) // 2
                stem = module.removesuffix("gate_up_proj")
                parts = {f"{stem}gate_proj": found[:half], f"{stem}up_proj": found[half:]}
            packed = {part: scheme.pack(matrix) for part, matrix in parts.items()}
            values[name] = np.concatenate([each.values for each in packed.values()])
            for part, each in packed.items():
                for suffix, array in each.tensors.items():
                    dtype = each.dtypes.get(suffix) or DTYPES[array.dtype.name]
                    tensors.append((f"{part}.{suffix}", dtype, array.shape, np.ascontiguousarray(array).tobytes()))
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return values
    weight_map = {}
    for shard in range(shards):
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        write_safetensors(folder / name, tensors[shard::shards])
        weight_map |= {tensor[0]: name for tensor in tensors[shard::shards]}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return values
