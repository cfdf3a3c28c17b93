"""What this machine has of the int4 kernel, in words for `edge devices` and `edge doctor`."""

import importlib.util

from ....errors import EdgeError
from .library import find_compiler, find_instructions, find_library, is_supported_platform, library_name, library_root


def describe_kernel() -> str:
    """Return the instructions that the kernel uses, or why it is not used and the cure; "" on platforms without one."""
    if not is_supported_platform() or importlib.util.find_spec("openvino") is None:
        return ""
    if path := find_library():
        return find_instructions(path)
    try:
        built = {file.name for file in library_root().glob("*.so")}
        if library_name() in built:
            return "built, but it cannot run on this processor; OpenVINO's own products are used"
        if built:
            return "built for another version of OpenVINO, and not used; run `edge kernel` again"
        find_compiler()
    except EdgeError as exc:
        return f"not built: {exc}; {exc.hint}"
    except OSError as exc:
        return f"not built: {exc}"
    return "not built; `edge kernel` makes int4 models faster here"
