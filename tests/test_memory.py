"""The estimate of memory. What it predicts is measured by `benchmarks/memory.py`."""

from dataclasses import replace

import pytest

from edge.catalogue import CATALOGUE
from runtime.device.memory import MappedWeights, estimate, estimate_from_sizes, longest_context
from runtime.errors import DeviceError
from runtime.folder.manifest import CheckpointRecord, Manifest, ModelSizes

SIZES = ModelSizes(weights=5_000, embedding_bytes=1_000, largest=900, layers=2, hidden=8, ffn=16, vocab=10, kv_heads=1)
MANIFEST = Manifest("glm4_0414", "int4", CheckpointRecord("tiny", "Glm4ForCausalLM", ""), 8192, 1024, {}, sizes=SIZES)


def test_each_part_grows_with_what_it_is_made_of():
    base = estimate_from_sizes(SIZES, "CPU", 1024, 1024)
    assert base.weights == 4_000
    assert estimate_from_sizes(replace(SIZES, groups=10), "CPU", 1024, 1024).weights > 4_000
    assert estimate_from_sizes(SIZES, "CPU", 2048, 1024).kv_cache == 2 * base.kv_cache
    assert (
        estimate_from_sizes(SIZES, "GPU", 2048, 1024).activations
        == estimate_from_sizes(SIZES, "GPU", 512, 1024).activations
    )  # of a chunk
    assert (
        estimate_from_sizes(SIZES, "GPU", 64, 1024).activations
        < estimate_from_sizes(SIZES, "GPU", 512, 1024).activations
    )
    more = (
        estimate_from_sizes(SIZES, "CPU", 2048, 1024).activations - base.activations
    )  # keys, values and scores of the context
    assert more > 1024 * 1024
    assert (
        estimate_from_sizes(SIZES, "CPU", 2048, 1024, threads=1).activations
        < estimate_from_sizes(SIZES, "CPU", 2048, 1024).activations
    )
    assert base.running == base.program + base.weights + base.kv_cache + base.activations == base.peak


@pytest.mark.parametrize(("precision", "bytes_per_token"), [("f32", 2048), ("f16", 1024), ("u8", 592), ("u4", 336)])
def test_the_cache_by_precision(precision, bytes_per_token):
    assert estimate_from_sizes(SIZES, "CPU", 1, 1024, precision).kv_cache == bytes_per_token


def test_an_unknown_precision_is_refused():
    with pytest.raises(DeviceError, match="u9"):
        estimate_from_sizes(SIZES, "CPU", 1, 1024, "u9")


def test_a_gpu_holds_the_weights_twice_while_it_loads():
    gpu = estimate_from_sizes(replace(SIZES, weights=10**9), "GPU", 512, 1024)
    assert gpu.weights == 10**9
    assert gpu.peak == gpu.loading >= 2 * 10**9 > gpu.running


def test_an_npu_has_two_caches_in_f16():
    assert estimate_from_sizes(SIZES, "NPU", 100, 1024).kv_cache == 2 * 100 * 1024


def test_the_longest_context_is_the_longest_that_fits():
    free = estimate(MANIFEST, "CPU", 2048).peak
    assert longest_context(MANIFEST, "CPU", free) == 2048
    assert longest_context(MANIFEST, "CPU", free - 1) == 2048 - 256
    assert longest_context(MANIFEST, "CPU", 10**12) == 8192
    assert longest_context(MANIFEST, "CPU", 1000) == 0


def test_a_manifest_without_sizes_is_estimated_by_its_weights(bare_folder):
    assert estimate(replace(bare_folder.manifest, sizes=None), "CPU", 512).weights == 0


def test_the_real_models_take_what_was_seen():
    """An int4 9B took 5.5 GB beside the mapped file, without a long context."""
    entry = CATALOGUE["GLM-4-9B-0414"]
    assert 5.2e9 < entry.memory_bytes("int4") < 6.4e9
    assert entry.memory_bytes("int8") > 1.6 * entry.memory_bytes("int4")


def test_mapped_weights_are_not_repacked():
    """Those of the int4 kernel are pages of the file: what is left to repack is the rest, without their scales."""
    sizes = replace(SIZES, groups=40)
    stock = estimate_from_sizes(sizes, "CPU", 1024, 1024)
    kernel = estimate_from_sizes(sizes, "CPU", 1024, 1024, mapped=MappedWeights(2_640, 40))
    assert (stock.weights, stock.mapped) == (4_000 + 6 * 40, 0)
    assert (kernel.weights, kernel.mapped) == (4_000 - 2_640, 2_640)
    assert stock.running - kernel.running == 6 * 40
    assert estimate_from_sizes(sizes, "GPU", 1024, 1024, mapped=MappedWeights(2_640, 40)).mapped == 0
