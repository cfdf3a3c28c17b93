"""The embedded checkpoint, converted once for all tests, and a folder without weights for those that need no engine."""

import base64
import json
from pathlib import Path

import pytest

from edge.demo import CHECKPOINT
from edge.demo.training.tokenizer import SPECIAL_TOKENS
from runtime.folder.model_folder import CheckpointRecord, Manifest, ModelFolder, write_manifest

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "glm4-reference"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--folders", type=int, default=20, help="damaged model folders in tests/test_hostile_folders.py")
    parser.addoption("--mutants", type=int, default=8, help="damaged files of each kind in tests/test_hostile_files.py")


@pytest.fixture(scope="session")
def reference() -> Path:
    """Facts and templates of the real GLM-4, which do not come with the project."""
    if not REFERENCE.is_dir():
        pytest.skip("the GLM-4 reference data is not here")
    return REFERENCE


@pytest.fixture(scope="session")
def real(reference, tmp_path_factory):
    """GLM-4's own tokenizer, and the folder to which it was converted."""
    from convert.output.tokenizer import write_tokenizer
    from runtime.checkpoint.tokenizer import read_tokenizer

    folder = tmp_path_factory.mktemp("real")
    source = read_tokenizer(reference / "glm-4-9b-chat", 151552)
    write_tokenizer(source, folder)
    return source, folder


@pytest.fixture(scope="session")
def tiktoken_encoding(reference):
    """The same by tiktoken, for which it was made."""
    import tiktoken

    from runtime.checkpoint.tokenizer import PRETOKENIZER_PATTERN

    lines = (reference / "glm-4-9b-chat" / "tokenizer.model").read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
    special = {name: len(ranks) + i for i, name in enumerate(SPECIAL_TOKENS)}
    return tiktoken.Encoding("glm4", pat_str=PRETOKENIZER_PATTERN, mergeable_ranks=ranks, special_tokens=special)


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory) -> ModelFolder:
    """The embedded checkpoint as `edge demo` converts it."""
    return converted(tmp_path_factory, "int4")


@pytest.fixture(scope="session", autouse=True)
def compiled_models(tmp_path_factory):
    """Compiled models are kept with the tests, not with the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_CACHE", str(tmp_path_factory.mktemp("cache")))
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
