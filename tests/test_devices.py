"""What "auto" takes, on a table of machines; none of them has to be here."""

from dataclasses import replace

import pytest

from convert.estimate import model_sizes
from convert.recipe import RECIPES
from edge.catalogue import CATALOGUE
from runtime.backends.backend import Options
from runtime.backends.choose import assess_devices, choose, choose_automatically
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.backends.openvino.single_request.npu import EMULATED, NPU
from runtime.device.machine import CPU, GPU, CUDACard, Machine, MissingComponent, NPUDevice
from runtime.device.memory import LARGEST_ALLOCATION
from runtime.errors import DeviceError, Notice
from runtime.folder.manifest import CheckpointRecord, Manifest

GB = 10**9


def model(name="GLM-4-9B-0414", recipe="int4"):
    architecture = CATALOGUE[name].architecture
    sizes = model_sizes(architecture, RECIPES[recipe])
    source = CheckpointRecord(name, architecture.name, "")
    return Manifest("glm4_0414", recipe, source, architecture.context, architecture.kv_bytes_per_token, {}, sizes=sizes)


def igpu(memory, name="Intel Arc Graphics"):
    return GPU("GPU", name, memory, LARGEST_ALLOCATION)


NPU_3720, NPU_4000 = NPUDevice("NPU", "Intel AI Boost", "3720"), NPUDevice("NPU", "Intel AI Boost", "4000")
BROKEN = MissingComponent("GPU", "the OpenCL loader, libOpenCL.so.1", "sudo apt install …")
LAPTOP = CPU("Core Ultra 7 155H", 16, ("AVX2", "AVX-VNNI"))
METEOR_LAKE = Machine(LAPTOP, 16 * GB, 13 * GB, (igpu(9 * GB),), (NPU_3720,))
LUNAR_LAKE = Machine(CPU("Core Ultra 7 258V", 8, ("AVX2",)), 32 * GB, 27 * GB, (igpu(18 * GB),), (NPU_4000,))
N100 = Machine(CPU("N100", 4, ("AVX2",)), 8 * GB, 13 * GB // 2, (igpu(9 * GB // 2, "UHD"),))
XEON = Machine(CPU("Xeon", 32, ("AVX2", "AVX512", "AMX")), 256 * GB, 240 * GB)
TIGHT = replace(N100, gpus=(), free=int(5.8e9))
NVIDIA = Machine(LAPTOP, 32 * GB, 26 * GB, cuda=(CUDACard("RTX 4090", 24 * GB, 23 * GB),))
ARC = Machine(LAPTOP, 16 * GB, 13 * GB, (igpu(9 * GB), GPU("GPU.1", "Arc A770", 16 * GB, LARGEST_ALLOCATION, False)))
BROKEN_DRIVER = Machine(LAPTOP, 16 * GB, 13 * GB, missing=(BROKEN,))
OLD_DESKTOP = Machine(CPU("i5-4590", 4, ("AVX2",)), 4 * GB, 3 * GB)


@pytest.mark.parametrize(
    ("machine", "manifest", "backend", "device", "because"),
    [
        (LUNAR_LAKE, model(), OpenVINO, "GPU", ["reads prompts faster", "not NPU: it wants the recipe int4-npu"]),
        (LUNAR_LAKE, model(recipe="int4-npu"), NPU, "NPU", ["converted for the NPU"]),
        (METEOR_LAKE, model(), OpenVINO, "CPU", ["the CPU has room", "not GPU: it needs 11", "9.0 GB is free"]),
        (METEOR_LAKE, model("glm-edge-4b-chat"), OpenVINO, "GPU", ["reads prompts faster"]),
        (METEOR_LAKE, model("glm-edge-1.5b-chat", "int4-npu"), NPU, "NPU", ["converted for the NPU"]),
        (N100, model("glm-edge-1.5b-chat"), OpenVINO, "GPU", ["reads prompts faster"]),
        (N100, model("glm-edge-4b-chat"), OpenVINO, "CPU", ["not GPU: it needs"]),
        (N100, model(), OpenVINO, "CPU", ["the CPU has room", "not GPU: it needs 11"]),
        (XEON, model(recipe="bf16"), OpenVINO, "CPU", ["finds no GPU"]),
        (XEON, model("GLM-4-32B-0414"), OpenVINO, "CPU", ["finds no GPU"]),
        (NVIDIA, model(), OpenVINO, "CPU", ["not the RTX 4090", "the engine torch does"]),
        (ARC, model(), OpenVINO, "GPU.1", ["reads prompts faster"]),
        (BROKEN_DRIVER, model(), OpenVINO, "CPU", ["libOpenCL.so.1 is missing", "edge doctor"]),
        (replace(XEON, npus=(NPU_4000,)), model(), OpenVINO, "CPU", ["not NPU: it wants the recipe int4-npu"]),
    ],
)
def test_auto(machine, manifest, backend, device, because):
    choice = choose_automatically(machine, manifest)
    assert (choice.backend, choice.device) == (backend, device), choice.reason
    for words in because:
        assert words in choice.reason


@pytest.mark.parametrize(
    ("machine", "manifest", "options", "ways"),
    [
        (OLD_DESKTOP, model(), Options(), ["a smaller model", "on a server"]),
        (N100, model(recipe="int8"), Options(), ["the smaller recipe int4"]),
        (N100, model("GLM-4-32B-0414", "bf16"), Options(), ["the smaller recipe int4"]),
        (replace(N100, servers=("http://box/v1",)), model(recipe="int8"), Options(), ["the server http://box/v1"]),
        (TIGHT, model(), Options(context=32768), ["a context of at most"]),
        (METEOR_LAKE, model("GLM-4-32B-0414"), Options(), ["a smaller model"]),
    ],
)
def test_where_nothing_fits_auto_says_what_would(machine, manifest, options, ways):
    with pytest.raises(DeviceError, match=r"fits no device here: .*not CPU: it needs .* is free") as caught:
        choose_automatically(machine, manifest, options)
    for way in ways:
        assert way in caught.value.hint


def test_a_shorter_context_that_is_offered_fits():
    with pytest.raises(DeviceError) as caught:
        choose_automatically(TIGHT, model(), Options(context=32768))
    offered = int("".join(filter(str.isdigit, caught.value.hint.split("at most")[1].split("tokens")[0])))
    assert choose_automatically(TIGHT, model(), Options(context=offered)).device == "CPU"


def test_a_weight_over_the_largest_allocation_rules_a_gpu_out():
    manifest = model()
    sizes = replace(manifest.sizes, largest=LARGEST_ALLOCATION + 1)
    fit = next(fit for fit in assess_devices(LUNAR_LAKE, replace(manifest, sizes=sizes)) if fit.kind == "GPU")
    assert fit.obstacle == "a weight of 4.3 GB is over its largest allocation, 4.3 GB"


def test_a_shorter_cache_lets_more_fit():
    with pytest.raises(DeviceError):
        choose_automatically(TIGHT, model(), Options(context=16384, kv_precision="f32"))
    assert choose_automatically(TIGHT, model(), Options(context=16384, kv_precision="u4")).device == "CPU"


def test_auto_on_this_machine_says_why(demo_folder):
    choice = choose("auto", demo_folder)
    assert choice.device in OpenVINO.devices()
    assert "free" in choice.reason


def test_the_emulation_says_that_it_is_one():
    choice = choose("npuw:cpu")
    assert (choice.backend, choice.device) == (NPU, EMULATED)
    assert "emulated on the CPU" in choice.reason


def test_what_was_asked_for_is_taken_with_a_notice_where_it_does_not_fit(bare_folder, monkeypatch):
    monkeypatch.setattr("runtime.backends.choose.detect", lambda: OLD_DESKTOP)
    folder = replace(bare_folder, manifest=model())
    with pytest.warns(Notice, match="may not fit CPU: it needs .*, 3.0 GB is free"):
        assert choose("CPU", folder).device == "CPU"
