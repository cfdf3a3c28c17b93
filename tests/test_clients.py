"""Client libraries that are not ours, in the environments of tests/environments/clients.sh."""

import os
import re
import subprocess
from pathlib import Path

import pytest

import edge

from .client_matrix import CLIENTS, FEATURES, SCRIPTS, Environments, serving_slowly
from .encoders import write_embedding_model, write_rerank_model
from .serving import serving_ours

FOLDER = os.environ.get("EDGE_TEST_CLIENTS", "")
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
PATHS = {
    "OpenAI's": ["--exclude-path-regex", "^/(v1/(messages|files|batches)|api/)"],
    "files and batches": ["--include-path-regex", "^/v1/(files|batches)"],
    "Anthropic's": ["--include-path-regex", "^/v1/messages"],
    "Ollama's": ["--include-path-regex", "^/api/"],
}
pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(not FOLDER, reason="EDGE_TEST_CLIENTS names no folder of environments"),
]


@pytest.fixture(scope="module")
def url(demo_folder):
    with serving_slowly(demo_folder.path) as url:
        yield url


@pytest.fixture(scope="module")
def url_of_all_tasks(demo_folder, tmp_path_factory):
    """The URL of a server that has an embedding and a reranking model, too."""
    place = tmp_path_factory.mktemp("encoders")
    embedding = edge.adopt(write_embedding_model(place / "exported"), place / "tiny-embed")
    reranking = edge.adopt(write_rerank_model(place / "tiny-rerank"))
    with serving_ours(demo_folder.path, embedding.path, reranking.path) as (url, _):
        yield url


@pytest.fixture(scope="module")
def environments():
    return Environments(Path(FOLDER))


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_has_every_feature(environments, url, demo_folder, client):
    assert environments.run(client, url, demo_folder.path.name) == dict.fromkeys(FEATURES)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("paths", PATHS)
def test_schemathesis_finds_no_server_error(environments, url_of_all_tasks, tmp_path, paths):
    command = [environments.python, "-m", "schemathesis.cli", "run", f"{url_of_all_tasks}/openapi.json", *PATHS[paths]]
    command += ["--seed", "1", "--max-examples", "40", "--checks", CHECKS, "--no-color"]
    command += ["--request-timeout", "120"]  # of a machine that does other work
    hooks = {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ | hooks, timeout=1700
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    found = re.search(r"(\d{3,}) generated, \1 passed", done.stdout)
    assert found, done.stdout[-2000:]
    print(f"{paths} paths: {found[0]}")
