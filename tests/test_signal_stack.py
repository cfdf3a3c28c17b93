"""Ctrl-C after models have come and gone."""

import subprocess
import sys

import pytest

PROGRAM = """
import gc, os, signal, sys
from runtime.backends.backend import Options
from runtime.backends.openvino.batched import OpenVINO
from runtime.folder.model_folder import ModelFolder

folder, loaded = ModelFolder.open(sys.argv[1]), []
for number in range(3):
    loaded.append(OpenVINO.load(folder, "CPU", Options()))
    if number:
        loaded.pop(0).close()
        gc.collect()
loaded.pop().close()
gc.collect()
signal.signal(signal.SIGINT, signal.default_int_handler)
taken = bytearray(b"x") * 50_000_000  # where the stack was
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
def test_a_signal_finds_a_stack(demo_folder):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(demo_folder.path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr
