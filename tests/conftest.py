"""The embedded checkpoint, converted once for all tests, and a folder without weights for those that need no engine."""

import json
import signal
import sys
from pathlib import Path

import pytest

from edge.demo import CHECKPOINT
from runtime.folder.manifest import CheckpointRecord, Manifest
from runtime.folder.model_folder import ModelFolder, write_manifest

from .references import REFERENCE, SPECIAL_TOKENS, VOCABULARIES, ReferenceVocabulary, load_vocabulary

SOURCES = Path(__file__).resolve().parents[1] / "runtime"
# What is read there, or imported from edge.demo.training, is in no wheel.
collect_ignore = (
    []
    if SOURCES.is_dir()
    else [
        f"test_{name}.py"
        for name in ("architecture", "demo_dialogues", "evaluation", "floors", "npu", "sdist", "wheel")
    ]
)
# Each has a script in tests/environments that makes its environment and runs its tests.
ENVIRONMENTS = tuple(
    "agents anthropic axe clients cuda embeddings ipex lm_eval mcp_servers ollama optimum peft proxies quantized "
    "schema_suite vllm".split()
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--folders", type=int, default=20, help="damaged model folders in tests/test_hostile_folders.py")
    parser.addoption("--mutants", type=int, default=8, help="damaged files of each kind in tests/test_hostile_files.py")
    parser.addoption("--max-skips", type=int, help="fail if more tests than this are skipped")


def pytest_configure(config: pytest.Config) -> None:
    """Handle signals that `nohup` and a shell's background job ignore: processes of tests would inherit that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)  # still outlives its terminal; what it starts does not


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests of data and environments that are not here."""
    named = str(config.option.markexpr)
    absent = [marker for marker in ENVIRONMENTS if marker not in named]
    unusable = [name for name, path in {"reference": REFERENCE, "sources": SOURCES}.items() if not path.is_dir()]
    deselected = [
        item
        for item in items
        if any(item.get_closest_marker(marker) for marker in absent)
        or not set(unusable).isdisjoint(getattr(item, "fixturenames", ()))
    ]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if item not in set(deselected)]


def pytest_sessionfinish(session: pytest.Session) -> None:
    allowed, reporter = (
        session.config.getoption("--max-skips"),
        session.config.pluginmanager.get_plugin("terminalreporter"),
    )
    if allowed is None or reporter is None:
        return
    if (count := len(reporter.stats.get("skipped", ()))) > allowed:
        reporter.write_line(f"{count} tests were skipped, more than --max-skips {allowed}; -rs lists them", red=True)
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def reference() -> Path:
    """Facts, templates and tokenizer of the real GLM-4. They do not come with the project: a test of them is not
    collected where they are not."""
    return REFERENCE


@pytest.fixture(scope="session")
def sources() -> Path:
    """The folder of the source tree, for a test that reads it. Where the suite tests an installed wheel, there is
    none."""
    return SOURCES.parent


@pytest.fixture(scope="session", params=VOCABULARIES)
def vocabulary(request, tmp_path_factory) -> ReferenceVocabulary:
    """Our own vocabulary, and the real GLM-4's where it is."""
    return load_vocabulary(request.param, tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory) -> ModelFolder:
    """The embedded checkpoint as `edge demo` converts it."""
    return converted(tmp_path_factory, "int4")


@pytest.fixture(scope="session", autouse=True)
def compiled_models(tmp_path_factory):
    """Compiled models are kept with the tests, not with the user's, whose own models are not seen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_MODELS", str(tmp_path_factory.mktemp("models")))
        patch.setenv("EDGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def npu_folder(tmp_path_factory) -> ModelFolder:
    """The embedded checkpoint as an NPU wants it."""
    return converted(tmp_path_factory, "int4-npu")


def converted(tmp_path_factory, recipe) -> ModelFolder:
    from convert.pipeline import convert

    *_, last = convert(CHECKPOINT, tmp_path_factory.mktemp(recipe) / "model", recipe)
    return last.result


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """One Chromium for all tests of the page."""
    from .browser import chromium

    with chromium(tmp_path_factory.mktemp("profile"), tmp_path_factory.mktemp("downloads")) as opened:
        yield opened


@pytest.fixture
def bare_folder(tmp_path) -> ModelFolder:
    """A sealed folder with a chat template and no weights."""
    folder = tmp_path / "bare"
    folder.mkdir()
    template = (CHECKPOINT / "chat_template.jinja").read_text(encoding="utf-8")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": False}))
    special = {token: 100 + i for i, token in enumerate(SPECIAL_TOKENS)}
    source = CheckpointRecord("tiny", "Glm4ForCausalLM", "0" * 64)
    return write_manifest(folder, Manifest("glm4_0414", "int4", source, 4096, 1024, special))
