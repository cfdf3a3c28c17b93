"""Large pieces of memory have mappings of their own, whatever was freed before."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="this is not glibc"
)
CODE = """
import ctypes, sys
from runtime.system.allocator import set_mmap_threshold

class Info(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.mallinfo2.restype = ctypes.c_void_p, Info
if sys.argv[1] == "asked":
    set_mmap_threshold()
libc.free(ctypes.c_void_p(libc.malloc(ctypes.c_size_t(16 << 20))))  # glibc takes it for the threshold
before = libc.mallinfo2().hblks
kept = [libc.malloc(ctypes.c_size_t(8 << 20)) for _ in range(4)]
print(libc.mallinfo2().hblks - before)
"""


@glibc
@pytest.mark.parametrize(
    ("asked", "environment", "mapped"),
    [
        ("no", {}, 0),
        ("asked", {}, 4),
        ("asked", {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=33554432"}, 0),
    ],
)
def test_large_pieces_are_mapped_unless_the_environment_says_otherwise(asked, environment, mapped):
    command = [sys.executable, "-c", CODE, asked]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ, **environment}
    )
    assert int(done.stdout) == mapped


@glibc
def test_a_conversion_keeps_its_pieces_in_the_heap():
    """In a process that has loaded a model; afterwards the threshold is as before."""
    code = (
        CODE.partition("before =")[0]
        + """
from runtime.system.allocator import keep_freed_memory

def mapped():
    before = libc.mallinfo2().hblks
    kept = [libc.malloc(ctypes.c_size_t(8 << 20)) for _ in range(4)]
    found = libc.mallinfo2().hblks - before
    for piece in kept:
        libc.free(ctypes.c_void_p(piece))
    return found

found = [mapped()]
with keep_freed_memory():
    found += [mapped(), mapped()]
print(*found, mapped())
"""
    )
    for asked, wanted in (("asked", "4 0 0 4"), ("no", "0 0 0 0")):
        command = [sys.executable, "-c", code, asked]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout.split() == wanted.split()


@glibc
def test_freed_pages_go_back_when_asked():
    code = """
import psutil
from runtime.system.allocator import trim_heap
memory = lambda: psutil.Process().memory_info().rss / 2**20
pieces = [bytes(10_000) for _ in range(20_000)]
last = bytes(10_000)
del pieces
before = memory()
trim_heap()
print(before - memory())
"""
    command = [sys.executable, "-c", code]
    given = float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert given > 100
