"""What importing our packages changes for the whole process, and what then becomes of the libraries' telemetry."""

import json
import os
from importlib.metadata import version

import pytest

from convert.recipe import get_recipe
from convert.source import optimum
from runtime.system.telemetry import ENVIRONMENT

from .audit import Place

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
    assert environment == ENVIRONMENT
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
