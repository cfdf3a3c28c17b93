"""Client libraries that are not ours, in the environments of tests/environments/clients.sh."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from .client_matrix import CLIENTS, FEATURES, Environments
from .serving import serving_ours

FOLDER = os.environ.get("EDGE_TEST_CLIENTS", "")
pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(not FOLDER, reason="EDGE_TEST_CLIENTS names no folder of environments"),
]


@pytest.fixture(scope="module")
def url(demo_folder):
    with serving_ours(demo_folder.path) as (url, _):
        yield url


@pytest.fixture(scope="module")
def environments():
    return Environments(Path(FOLDER))


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_has_every_feature(environments, url, demo_folder, client):
    assert environments.run(client, url, demo_folder.path.name) == dict.fromkeys(FEATURES)


def test_schemathesis_finds_no_server_error(environments, url, tmp_path):
    command = [
        environments.python,
        "-m",
        "schemathesis.cli",
        "run",
        f"{url}/openapi.json",
        "--seed",
        "1",
        "--max-examples",
        "40",
    ]
    command += [
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]
    command += ["--request-timeout", "120"]  # an answer may fill the context
    done = subprocess.run([*command, "--no-color"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    assert re.search(r"(\d{3,}) generated, \1 passed", done.stdout), done.stdout[-2000:]
