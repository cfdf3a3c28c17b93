"""The library of Int4MatMul: built by the user's C++ compiler into the cache, found there, and checked before its use.

It is built against the installed OpenVINO, whose wheel contains the headers, and works with that version alone.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from ....errors import BackendError, EdgeError
from ....folder.compile_cache import cache_root
from ....system.user_folders import make_private
from ....text import one_line

GROUP = 128  # columns of weights that share a scale
INSTRUCTIONS = {1: "AVX2", 2: "AVX-VNNI", 3: "AVX-512 VNNI", 4: "AVX-512 VNNI, 256 bits"}
_SOURCES = ("activations.h", "avx2.h", "avx512.h", "int4_matmul.cpp", "panels.h")
_FLAGS = ("-O3", "-std=c++17", "-fPIC", "-shared", "-fvisibility=hidden", "-w")
_COMPILERS = ("c++", "g++", "clang++")
_BUILD_TIMEOUT = 600  # seconds
_TOLERANCE = 0.02  # of a product's largest value; activations are rounded to int8


def library_root() -> Path:
    """Return the folder of libraries. Raises RequestError if the user has no home folder."""
    return cache_root() / "int4"


def is_supported_platform() -> bool:
    """Whether the library can be built here at all: on Linux, for x86-64."""
    return sys.platform == "linux" and platform.machine().lower() in ("x86_64", "amd64")


@cache
def library_name() -> str:
    """Return the file name of the library, which contains a hash of its sources and of OpenVINO's version."""
    from openvino import get_version

    digest = hashlib.sha256(get_version().encode())
    for name in _SOURCES:
        digest.update((Path(__file__).parent / name).read_bytes())
    return f"int4_matmul-{digest.hexdigest()[:16]}.so"


def find_library() -> Path | None:
    """Return the library; None unless it was built for the installed OpenVINO and runs on this processor."""
    if not is_supported_platform():
        return None
    try:
        path = library_root() / library_name()
        return path if path.is_file() and find_instructions(path) else None
    except (EdgeError, OSError, ImportError):
        return None


@cache
def find_instructions(path: Path) -> str:
    """Return the name of the instructions that the library uses on this processor; "" for none. Raises OSError."""
    return INSTRUCTIONS.get(_load(path).edge_int4_instructions(), "")


def build_library() -> Path:
    """Build the library, check its products, and store it in the cache in place of earlier ones; return its path.

    Raises BackendError on other platforms, without a compiler, or if the build or the check fails.
    """
    if not is_supported_platform():
        raise BackendError(
            "the int4 kernel is for Linux on x86-64",
            hint="OpenVINO's own products are used here; on Windows, run edge in WSL to have it",
        )
    compiler = find_compiler()
    import openvino

    place = Path(openvino.__file__).parent
    libraries = [str(path) for name in ("libopenvino.so.*", "libtbb.so.*") for path in (place / "libs").glob(name)]
    if not libraries or not (place / "include").is_dir():
        raise BackendError(f"{place} has no headers to build the int4 kernel with", hint="install OpenVINO from PyPI")
    try:
        folder = make_private(library_root())
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as scratch:
            built = Path(scratch) / library_name()
            source = Path(__file__).with_name("int4_matmul.cpp")
            command = [compiler, *_FLAGS, f"-I{place / 'include'}", "-o", str(built), str(source), *libraries]
            done = subprocess.run(
                command, capture_output=True, encoding="utf-8", errors="replace", timeout=_BUILD_TIMEOUT, check=False
            )
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
                raise BackendError(
                    f"{compiler} cannot build the int4 kernel: {one_line(lines[0] if lines else '')}",
                    hint="it needs GCC 12, Clang 15 or newer; CXX names another compiler",
                )
            check_library(built)
            for old in folder.glob("*.so"):
                old.unlink()
            built.chmod(0o600)
            os.replace(built, folder / library_name())
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise BackendError(
            f"the int4 kernel cannot be built: {exc}", hint="free some disk space, or try again"
        ) from exc
    return folder / library_name()


def find_compiler() -> str:
    """Return the C++ compiler: the one in CXX, or the first in PATH. Raises BackendError if there is none."""
    named = os.environ.get("CXX")
    for name in (named,) if named else _COMPILERS:
        if name and shutil.which(name):
            return name
    raise BackendError(
        f"there is no C++ compiler{f' {named}' if named else ''}",
        hint="install g++ (Debian, Ubuntu: apt install g++), or name a compiler in CXX",
    )


def check_library(path: Path) -> None:
    """Compare products of the library, of few rows and of many, with numpy's. Raises BackendError where they differ."""
    import numpy as np

    library = _load(path)
    if not (instructions := library.edge_int4_instructions()):
        raise BackendError("this processor has no AVX2", hint="OpenVINO's own products are used here")
    random = np.random.default_rng(1)
    rows, columns = 70, 4 * GROUP
    weights = random.integers(0, 256, (rows, columns // 2), dtype=np.uint8)
    scales = random.uniform(0.01, 0.02, (rows, columns // GROUP)).astype(np.float16)
    exact = decompress(weights, scales)
    for count in (1, 3, 9):
        activations = random.standard_normal((count, columns)).astype(np.float32)
        found, wanted = multiply(path, instructions, activations, weights, scales), activations @ exact.T
        if not np.abs(found - wanted).max() <= _TOLERANCE * np.abs(wanted).max():
            raise BackendError(
                f"the int4 kernel computes wrong products with {INSTRUCTIONS[instructions]}",
                hint="try another compiler by CXX, and report it",
            )


def multiply(path: Path, instructions: int, activations: Any, weights: Any, scales: Any) -> Any:
    """Return one product of the library, of shape [rows of activations, rows of weights] in f32: of activations
    [rows, columns] in f32, weights [rows, columns / 2] in bytes, and scales [rows, columns / 128] in f16."""
    import numpy as np

    product = np.empty((len(activations), len(weights)), np.float32)
    pointers = (array.ctypes.data_as(ctypes.c_void_p) for array in (activations, weights, scales, product))
    known = _load(path).edge_int4_multiply(
        instructions, *pointers, len(activations), len(weights), activations.shape[1] // GROUP
    )
    assert known, instructions
    return product


def decompress(weights: Any, scales: Any) -> Any:
    """Return the values of int4 weights in f32, of shape [rows, columns]. A byte's low half is the even column, as in
    OpenVINO's i4."""
    import numpy as np

    halves = np.stack([weights & 15, weights >> 4], axis=-1).astype(np.int8)
    values = np.where(halves > 7, halves - 16, halves).reshape(*scales.shape, GROUP)
    return (values * scales[..., None].astype(np.float32)).reshape(len(weights), -1)


@cache
def _load(path: Path) -> ctypes.CDLL:
    """Raises OSError. OpenVINO's own libraries, which it needs, come with the import."""
    import openvino  # noqa: F401

    return ctypes.CDLL(str(path))
