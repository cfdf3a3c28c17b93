"""Each effect on a whole process does what the table of native_effects.py says, and there are no others."""

import ast
import ctypes
import json
import logging
import os
import re
import subprocess
import sys
import threading
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest

from convert.recipe import get_recipe
from convert.source import optimum
from runtime.system import native_effects
from runtime.system.native_effects import TELEMETRY_VARIABLES

from .audit import Place

ROOT = Path(__file__).resolve().parents[1]

CHANGED = """
import json, os, sys
before, modules = dict(os.environ), set(sys.modules)
import {module}
print(json.dumps([
    {{name: value for name, value in os.environ.items() if before.get(name) != value}},
    [name for name in set(sys.modules) - modules if sys.modules[name] is None],
]))
"""


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    place.environment()
    return place


@pytest.mark.parametrize("module", ["runtime", "convert", "edge", "edge.cli"])
def test_what_an_import_changes(place, module):
    environment, missing = json.loads(place.python("-c", CHANGED.format(module=module)))
    assert environment == TELEMETRY_VARIABLES
    assert missing == ["openvino_telemetry"]


def test_what_the_user_has_set_stays(place):
    code = "import edge, os; print(os.environ['DO_NOT_TRACK'], os.environ['HF_HUB_DISABLE_TELEMETRY'])"
    assert place.python("-c", code, more={"DO_NOT_TRACK": "0"}).split() == ["0", "1"]


def test_an_application_may_import_openvino_before_or_after(place):
    compiled = "import openvino; openvino.Core().available_devices; print(openvino.__version__)"
    assert place.python("-c", f"import edge\n{compiled}")
    assert (place.asked, place.left()) == ([], [])
    assert place.python("-c", f"{compiled}\nimport edge", more={"CI": "1"})


LOADED_BEFORE = """
import openvino_telemetry
import edge, openvino, nncf
telemetry = openvino_telemetry.Telemetry(app_name="an application", app_version="1", tid="G-0", backend="ga4")
telemetry.send_event("category", "action", "label")
telemetry.start_session("category")
telemetry.force_shutdown(0)
import numpy as np
from openvino import opset13 as ops
x = ops.parameter([-1, 64], np.float32)
weights = ops.constant(np.ones((64, 64), np.float32))
model = openvino.Model([ops.matmul(x, weights, False, True)], [x], "model")
nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
"""


@pytest.mark.slow
def test_telemetry_that_an_application_has_loaded_falls_silent(place):
    pytest.importorskip("nncf")
    assert version("openvino-telemetry")
    place.python("-c", LOADED_BEFORE)
    assert (place.asked, place.left()) == ([], [])


def test_a_hub_library_that_is_loaded_already_does_not_count_its_callers(place):
    pytest.importorskip("huggingface_hub")
    code = "import huggingface_hub.constants as hub, edge; print(hub.HF_HUB_DISABLE_TELEMETRY)"
    assert place.python("-c", code).strip() == "True"


def test_the_exporter_of_optimum_is_silent_too(place, monkeypatch):
    """A stand-in for its command line, which imports OpenVINO as that does."""
    tool = place.root / "site" / "optimum" / "commands" / "optimum_cli.py"
    tool.parent.mkdir(parents=True)
    tool.write_text(
        "import openvino, pathlib, sys\n"
        "if __name__ == '__main__':\n"
        "    folder = pathlib.Path(sys.argv[-1])\n"
        "    folder.mkdir()\n"
        "    for name in ('openvino_model.xml', 'openvino_model.bin'): (folder / name).write_text(sys.argv[1])\n"
    )
    for name in os.environ.keys() - place.environment().keys():
        monkeypatch.delenv(name)
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    folder = place.work / "folder"
    folder.mkdir()
    list(optimum.export(place.work, folder, get_recipe("int8")))
    assert (folder / "openvino_model.xml").read_text() == "export"
    assert place.processes == 1
    assert (place.asked, place.left()) == ([], [])


# The allocator.

glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="this is not glibc"
)
HEAP = """
import ctypes, sys
from runtime.system.native_effects import set_mmap_threshold

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
    command = [sys.executable, "-c", HEAP, asked]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ, **environment}
    )
    assert int(done.stdout) == mapped


@glibc
@pytest.mark.parametrize(("call", "mapped"), [("", 4), ("raise_mmap_threshold()", 0)])
def test_large_blocks_stay_in_the_heap_after_one_was_freed(call, mapped):
    before, _, after = HEAP.partition("libc.free(")
    code = f"{before}from runtime.system.native_effects import raise_mmap_threshold\n{call}\n#{after}"
    done = subprocess.run([sys.executable, "-c", code, "no"], capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(done.stdout) == mapped


@glibc
def test_a_conversion_keeps_its_pieces_in_the_heap():
    """In a process that has loaded a model; afterwards the threshold is as before."""
    code = (
        HEAP.partition("before =")[0]
        + """
from runtime.system.native_effects import keep_freed_memory

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
from runtime.system.native_effects import trim_heap
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


# Signals.

LOAD_THREE = """
import gc, os, signal, sys
from runtime.backends.backend import Options
from runtime.backends.openvino.paged.batched import OpenVINO
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


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")
def test_a_signal_finds_a_stack(demo_folder):
    done = subprocess.run(
        [sys.executable, "-c", LOAD_THREE, str(demo_folder.path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr


# The environment, logging and warnings.


def test_the_users_number_of_primitives_stays(monkeypatch):
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    native_effects.set_onednn_cache_capacity(128)
    native_effects.set_onednn_cache_capacity(256)
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "128"


def test_variables_are_set_and_removed_for_a_block(monkeypatch):
    monkeypatch.setenv("EDGE_TEST_A", "before")
    monkeypatch.delenv("EDGE_TEST_B", raising=False)
    with native_effects.environment_variables({"EDGE_TEST_A": None, "EDGE_TEST_B": "now"}):
        assert "EDGE_TEST_A" not in os.environ
        assert os.environ["EDGE_TEST_B"] == "now"
    assert os.environ["EDGE_TEST_A"] == "before"
    assert "EDGE_TEST_B" not in os.environ


def in_another_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_nncf_is_quiet_in_its_block_and_in_no_other_thread(caplog):
    pytest.importorskip("nncf")
    from nncf.common.logging.track_progress import track

    def draws():
        bar = track([1, 2])
        bar.progress.start = lambda: started.append(bar)
        started = []
        assert list(bar) == [1, 2]
        return bool(started)

    def logs():
        caplog.clear()
        logging.getLogger("nncf").warning("something")
        return bool(caplog.records)

    nncf_logger, draw = logging.getLogger("nncf"), track.__iter__
    filters = list(nncf_logger.filters)
    caplog.set_level(logging.WARNING, logger="nncf")  # whatever other tests set
    nncf_logger.addHandler(caplog.handler)
    try:
        with native_effects.quiet_nncf():
            with native_effects.quiet_nncf():
                assert not draws()
            assert not draws()
            assert not logs()
            assert in_another_thread(draws)
            assert in_another_thread(logs)
        assert draws()
        assert logs()
    finally:
        nncf_logger.removeHandler(caplog.handler)
    assert (track.__iter__, nncf_logger.filters) == (draw, filters)


def transformers_state():
    logging = pytest.importorskip("transformers.utils.logging")
    return logging.is_progress_bar_enabled(), logging.get_verbosity()


def hub_state():
    utils = pytest.importorskip("huggingface_hub.utils")
    return not utils.are_progress_bars_disabled(), utils.logging.get_verbosity()


def logging_state():
    return logging.root.manager.disable, 0


@pytest.mark.parametrize(
    ("quiet", "state", "wanted"),
    [
        (native_effects.quiet_transformers, transformers_state, (False, logging.ERROR)),
        (lambda: native_effects.quiet_hub(bars=False), hub_state, (False, logging.ERROR)),
        (lambda: native_effects.quiet_hub(bars=True), hub_state, (True, logging.ERROR)),
        (native_effects.quiet_logging, logging_state, (logging.WARNING, 0)),
    ],
    ids=["transformers", "hub", "hub with bars", "logging"],
)
def test_libraries_are_quiet_until_the_last_block_ends(quiet, state, wanted):
    before = state()
    first, second = quiet(), quiet()
    first.__enter__()
    second.__enter__()
    assert state() == wanted
    first.__exit__(None, None, None)
    assert state() == wanted
    second.__exit__(None, None, None)
    assert state() == before


def test_warnings_are_ignored_for_a_block():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with native_effects.ignore_user_warnings():
            warnings.warn("in it", UserWarning, stacklevel=1)
        warnings.warn("after it", UserWarning, stacklevel=1)
    assert [str(one.message) for one in seen] == ["after it"]


# No other file changes the process, but for these, which run in processes of ours or handle signals for a while.
ELSEWHERE = {
    "edge/cli/__init__.py": {"warnings.showwarning ="},
    "edge/server/logs/log.py": {"logging.basicConfig"},
    "edge/server/run.py": {"logging.shutdown", "signal.signal"},
    "convert/output/scratch.py": {"signal.signal"},
    "runtime/documents/reader.py": {"resource.setrlimit"},
    "runtime/backends/child.py": {"os.environ.pop", "signal.signal"},
    "runtime/isolation/child.py": {"signal.signal"},
    "runtime/isolation/confine.py": {"os.chdir", "resource.setrlimit"},
    "runtime/isolation/namespaces.py": {"os.chdir"},
    "runtime/isolation/notebook.py": {"sys.modules['__main__'] =", "warnings.filterwarnings"},
}
CHANGES = re.compile(
    r"os\.(environ\.(pop|setdefault|update|clear)|putenv|unsetenv|nice|umask|setpriority|chdir)|signal\.(signal|set_wakeup_fd)"
    r"|logging\.(basicConfig|disable|shutdown|captureWarnings)|warnings\.(simplefilter|filterwarnings|catch_warnings)"
    r"|resource\.setrlimit|faulthandler\.\w+|sys\.set\w+|locale\.setlocale|\w+\.(mallopt|sigaltstack)"
    r"|multiprocessing\.set_start_method|\w+\.set_verbosity\w*"
)
ASSIGNED = re.compile(
    r"(os\.environ\[.*|warnings\.showwarning|sys\.(excepthook|unraisablehook|modules\[.*)|\w+\.__iter__)"
)


def changes(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and CHANGES.fullmatch(name := ast.unparse(node.func)):
            yield name
        for target in node.targets if isinstance(node, ast.Assign | ast.Delete) else ():
            if ASSIGNED.fullmatch(name := ast.unparse(target)):
                yield f"{name} ="


def test_blas_has_one_thread_within_the_block():
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def threads():
        return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]

    before = threads()
    with native_effects.one_blas_thread():
        assert set(threads()) <= {1}
    assert threads() == before


def test_no_other_file_changes_the_process(sources):
    found = {
        str(path.relative_to(sources).as_posix()): set(changes(path))
        for package in ("edge", "convert", "runtime")
        for path in (sources / package).rglob("*.py")
    }
    assert found.pop("runtime/system/native_effects.py") >= {"libc.mallopt", "os.environ.setdefault", "logging.disable"}
    assert {name: what for name, what in found.items() if what} == ELSEWHERE


def test_the_table_names_every_effect():
    source = ast.parse(Path(native_effects.__file__).read_text(encoding="utf-8"))
    public = {node.name for node in source.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")}
    rows = native_effects.__doc__.split("\n\n")[1].splitlines()[1:]
    assert {row.split()[0] for row in rows} == public
