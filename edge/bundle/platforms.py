"""The systems that a bundle can be made for: pip's tags of their wheels."""

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass

_MANYLINUX = ("2_34", "2_31", "2_28", "2_27", "2_26", "2_24", "2_17", "2_12", "2_5")


@dataclass(frozen=True, slots=True)
class BundlePlatform:
    """A system: the tags of its wheels, best first, and requirements that pip leaves out when it runs elsewhere."""

    name: str
    tags: tuple[str, ...]
    requirements: tuple[str, ...] = ()


_LINUX_TAGS = (*(f"manylinux_{version}_x86_64" for version in _MANYLINUX), "manylinux2014_x86_64")
_MAC_TAGS = tuple(f"macosx_{version}_0_{chip}" for version in range(15, 10, -1) for chip in ("arm64", "universal2"))
PLATFORMS: Mapping[str, BundlePlatform] = {
    one.name: one
    for one in (
        BundlePlatform("linux-x86_64", _LINUX_TAGS),
        BundlePlatform("windows-x86_64", ("win_amd64",), ("colorama",)),
        BundlePlatform("macos-arm64", (*_MAC_TAGS, "macosx_10_9_universal2")),
    )
}


def this_platform() -> str:
    """Return the name of this machine's system."""
    system = {"win32": "windows", "darwin": "macos"}.get(sys.platform, "linux")
    return f"{system}-{platform.machine().lower().replace('amd64', 'x86_64')}"


def python_version() -> str:
    """Return the version of this Python, such as 3.12."""
    return ".".join(map(str, sys.version_info[:2]))
