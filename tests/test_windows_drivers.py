"""Windows' devices without a working driver, from recorded ids, classes, problem codes and services."""

import pytest

from runtime.device.windows_drivers import PciDevice, find_missing, parse_device, read_devices

# Instance ids and compatible ids as Windows 11 lists them.
XE = r"PCI\VEN_8086&DEV_46A6&SUBSYS_0B041028&REV_0C\3&11583659&0&10"
XE_CLASS = [
    r"PCI\VEN_8086&DEV_46A6&REV_0C",
    r"PCI\VEN_8086&DEV_46A6",
    r"PCI\VEN_8086&CC_030000",
    r"PCI\VEN_8086&CC_0300",
    r"PCI\VEN_8086",
    r"PCI\CC_030000",
    r"PCI\CC_0300",
]
NPU = r"PCI\VEN_8086&DEV_7D1D&SUBSYS_22128086&REV_04\3&11583659&0&58"
NPU_CLASS = [r"PCI\VEN_8086&DEV_7D1D&REV_04", r"PCI\VEN_8086&CC_120000", r"PCI\CC_1200"]
LATER_NPU = r"PCI\VEN_8086&DEV_1234&SUBSYS_22128086&REV_04\3&11583659&0&58"
RTX = r"PCI\VEN_10DE&DEV_28A0&SUBSYS_0C211028&REV_A1\4&2283f625&0&0019"
RTX_CLASS = [r"PCI\VEN_10DE&DEV_28A0", r"PCI\VEN_10DE&CC_0300", r"PCI\CC_0300"]
AUDIO = r"PCI\VEN_8086&DEV_51C8&SUBSYS_0B041028&REV_01\3&11583659&0&FB"


@pytest.mark.parametrize(
    ("instance", "compatible", "vendor", "device", "kind"),
    [
        (XE, XE_CLASS, "8086", "46A6", "0300"),
        (NPU.lower(), [text.lower() for text in NPU_CLASS], "8086", "7D1D", "1200"),
        (RTX, RTX_CLASS, "10DE", "28A0", "0300"),
        (NPU, [], "8086", "7D1D", ""),
    ],
)
def test_a_device_by_its_ids(instance, compatible, vendor, device, kind):
    found = parse_device(instance, compatible, 28, "igfxn")
    assert found == PciDevice(vendor, device, kind, 28, "igfxn")


@pytest.mark.parametrize("instance", [r"USB\VID_8087&PID_0033\5&1", r"ROOT\BASICDISPLAY\0000", "", "PCI"])
def test_other_buses_are_none_of_ours(instance):
    assert parse_device(instance, [], 0, "") is None


@pytest.mark.parametrize(
    ("listed", "device", "what", "cure"),
    [
        ((XE, XE_CLASS, 28, ""), "GPU", "Intel's graphics driver", "Windows Update"),
        ((XE, XE_CLASS, 0, "BasicDisplay"), "GPU", "Intel's graphics driver", "Windows Update"),
        ((XE, XE_CLASS, 0, "igfxn"), "GPU", "too old", "Windows Update"),
        ((XE, XE_CLASS, 22, "igfxn"), "GPU", "disabled in Device Manager", "enable"),
        ((XE, XE_CLASS, 43, "igfxn"), "GPU", "does not start (code 43)", "Windows Update"),
        ((NPU, NPU_CLASS, 28, ""), "NPU", "the NPU's driver", "NPU driver"),
        ((NPU, [r"PCI\VEN_8086&CC_0400"], 28, ""), "NPU", "the NPU's driver", "NPU driver"),
        ((NPU, [], 28, ""), "NPU", "the NPU's driver", "NPU driver"),
        ((LATER_NPU, NPU_CLASS, 0, "npu"), "NPU", "too old", "NPU driver"),
        ((NPU, NPU_CLASS, 14, "npu"), "NPU", "a restart", "restart Windows"),
        ((RTX, RTX_CLASS, 28, ""), "CUDA", "nvidia-smi", "--device torch"),
    ],
)
def test_the_obstacle_is_named_with_its_cure(listed, device, what, cure):
    devices = [parse_device(*listed)]
    ((name, missing, how),) = find_missing(devices, gpu_works=False, npu_works=False, nvidia_works=False)
    assert name == device
    assert what in missing
    assert cure in how
    assert find_missing(devices, gpu_works=True, npu_works=True, nvidia_works=True) == ()


def test_several_are_named_in_order_and_once():
    devices = [parse_device(RTX, RTX_CLASS, 28, ""), parse_device(NPU, NPU_CLASS, 28, "")]
    devices += [parse_device(XE, XE_CLASS, 28, ""), parse_device(XE, XE_CLASS, 28, "")]
    devices.append(parse_device(AUDIO, [r"PCI\CC_0401"], 28, ""))
    found = find_missing(devices, gpu_works=False, npu_works=False, nvidia_works=False)
    assert [name for name, _, _ in found] == ["GPU", "NPU", "CUDA"]
    assert find_missing(devices[-1:], gpu_works=False, npu_works=False, nvidia_works=False) == ()


def test_elsewhere_there_is_nothing_to_read():
    assert isinstance(read_devices(), list)
