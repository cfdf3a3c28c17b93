"""What this machine has; and, from a table of signs, what is missing elsewhere."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from runtime.device.machine import SERVERS_VARIABLE, DriverProbe, detect, find_missing

GPU = DriverProbe(intel_gpu=True, render_node=True, render_allowed=True, opencl=True)
NPU = DriverProbe(intel_npu=True, accel_node=True, accel_allowed=True, level_zero=True)


@pytest.mark.parametrize(
    ("signs", "device", "what", "cure"),
    [
        (replace(GPU, render_node=False), "GPU", "/dev/dri", "--device /dev/dri"),
        (replace(GPU, render_allowed=False), "GPU", "group `render`", "usermod"),
        (replace(GPU, opencl=False), "GPU", "libOpenCL.so.1", "ocl-icd-libopencl1"),
        (GPU, "GPU", "OpenCL driver", "intel-opencl-icd"),
        (replace(NPU, accel_node=False), "NPU", "/dev/accel", "6.6"),
        (replace(NPU, accel_allowed=False), "NPU", "group `render`", "usermod"),
        (replace(NPU, level_zero=False), "NPU", "libze_loader", "libze1"),
        (NPU, "NPU", "driver and compiler", "linux-npu-driver"),
        (DriverProbe(nvidia=True), "CUDA", "nvidia-smi", "torch"),
    ],
)
def test_the_first_obstacle_is_named_with_its_cure(signs, device, what, cure):
    (found,) = find_missing(signs)
    assert found.device == device
    assert what in found.what
    assert cure in found.cure


@pytest.mark.parametrize("signs", [DriverProbe(), replace(GPU, gpu_works=True), replace(NPU, npu_works=True)])
def test_nothing_is_missing_where_all_works_or_nothing_is_built_in(signs):
    assert find_missing(signs) == ()


def test_obstacles_of_several_devices_are_all_named():
    both = replace(GPU, intel_npu=True, nvidia=True)
    assert [found.device for found in find_missing(both)] == ["GPU", "NPU", "CUDA"]


def test_this_machine_is_described(monkeypatch):
    monkeypatch.setenv(SERVERS_VARIABLE, "http://one:8000/v1  http://two/v1")
    machine = detect()
    assert machine.cpu.name
    assert machine.cpu.cores >= 1
    assert 0 < machine.free < machine.memory
    assert machine.servers == ("http://one:8000/v1", "http://two/v1")
    assert machine.packages["openvino"]
    assert json.loads(json.dumps(asdict(machine)))["memory"] == machine.memory


def test_without_proc_the_instruction_sets_are_numpys(monkeypatch):
    """As on Windows and macOS. Linux knows more, and nothing that numpy contradicts."""
    whole, read = detect().cpu.isa, Path.read_text

    def read_text(path, *arguments, **settings):
        if path.name == "cpuinfo":
            raise FileNotFoundError(path)
        return read(path, *arguments, **settings)

    monkeypatch.setattr(Path, "read_text", read_text)
    found = detect().cpu.isa
    assert found == tuple(name for name in whole if name in found)
    # numpy has one name for BF16 and FP16 together, and Zen 4 has BF16 alone.
    assert set(whole) - set(found) <= {"AVX-VNNI", "AMX", "AVX512-BF16"}
