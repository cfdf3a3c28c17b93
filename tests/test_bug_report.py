"""`edge doctor --report`: what a maintainer needs to know, and nothing personal. Secrets are planted everywhere."""

import json
import logging
import os
import platform
import shutil
import stat
from pathlib import Path

import pytest

pytest.importorskip("pydantic")

from edge.cli import main
from edge.diagnostics import log_lines
from edge.diagnostics.redaction import Redactor
from edge.server.logs.log import LogFormatter
from edge.server.logs.log_file import LogFile

USER, HOST, WORDS = "annasmith", "anna-laptop", "my diagnosis is confidential"
TOKEN, KEY = "hf_abcdefghijklmnop", "sk-0123456789"
SECRETS = (
    USER,
    HOST,
    WORDS,
    "diagnosis",
    TOKEN,
    KEY,
    "museum",
    "10.1.2.3",
    "internal.example",
    "budget.pdf",
    "Wunderkammer",
)

LOG = [
    ("10.1.2.3 (annasmith) POST /v1/chat/completions 200 1234 ms, first token after 80 ms, id req_museum", None),
    ("10.1.2.3 GET /v1/files/budget.pdf 404 1 ms, not_found, id x", None),
    ("10.1.2.3 POST /v1/chat/completions 200 5 ms, client disconnected, id annasmith", None),
    ("10.1.2.3 GET /my diagnosis is confidential POST /x 500 1 ms, id 1", None),
    ("museum-Wunderkammer is being loaded", None),
    ("museum-Wunderkammer is loaded, after 3.2 s", None),
    ("museum-Wunderkammer is unloaded: nothing has used it for 900 s", None),
    ("MCP server museum: my diagnosis is confidential", None),
    ("error: /home/annasmith/budget.pdf cannot be read: Permission denied", None),
    (f'ValueError\n  File "{Path(log_lines.__file__)}", line 12, in reduce\n    museum', None),
    ('  File "/home/annasmith/edge/museum.py", line 3, in diagnosis', None),
]
KNOWN = [
    "POST /v1/chat/completions 200 1234 ms, first token after 80 ms",
    "GET /v1/files/… 404 1 ms, not_found",
    "POST /v1/chat/completions 200 5 ms, client disconnected",
    "GET /…/… 500 1 ms",
    "a model is being loaded",
    "a model is loaded, after 3.2 s",
    "a model is unloaded",
    "(47 characters)",
    "(67 characters)",
]
CONFIG = f"""
[server]
host = "internal.example"
port = 8123
api_key_file = "/home/{USER}/{KEY}"
allow_host = ["internal.example", "museum.example"]
log_format = "json"
[models]
museum = "/home/{USER}/Wunderkammer"
[options]
device = "GPU.1"
context = 4096
[mcp]
servers = ["{KEY} museum"]
[kiosk]
system = "{WORDS}"
"""


@pytest.fixture
def planted(tmp_path, monkeypatch, demo_folder):
    """A user's home with secrets in its name, its settings, its log, its environment and its model folder."""
    home = tmp_path / "home" / USER
    home.mkdir(parents=True)
    for name in [name for name in os.environ if name.startswith("XDG_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    for name, value in {
        "USER": USER,
        "LOGNAME": USER,
        "USERNAME": USER,
        "HF_TOKEN": TOKEN,
        "EDGE_API_KEY": KEY,
        "EDGE_SERVERS": f"https://{USER}:{KEY}@internal.example/v1",
        "HTTPS_PROXY": f"http://{USER}:{KEY}@internal.example:3128",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(platform, "node", lambda: HOST)
    monkeypatch.chdir(home)
    handler = LogFile("")
    handler.setFormatter(LogFormatter("%(asctime)s %(message)s"))
    for text, _ in LOG:
        handler.handle(logging.LogRecord("edge.server", logging.INFO, "", 0, text, None, None))
    handler.close()
    (home / "edge.toml").write_text(CONFIG, encoding="utf-8")
    folder = home / "museum-Wunderkammer"
    shutil.copytree(demo_folder.path, folder)
    manifest = json.loads((folder / "edge.json").read_text(encoding="utf-8"))
    manifest["source"]["name"] = "museum-Wunderkammer"
    manifest["notes"] = [WORDS]
    (folder / "edge.json").write_text(json.dumps(manifest), encoding="utf-8")
    return home


@pytest.mark.parametrize("redacted", [True, False], ids=["redacted", "facts alone"])
def test_no_planted_secret_is_in_the_report(planted, capsys, monkeypatch, redacted):
    if not redacted:
        monkeypatch.setattr(Redactor, "redact", lambda self, value: value)
    words = ["doctor", "museum-Wunderkammer", "--report", "report.json", "--config", "edge.toml"]
    assert main(words) == 0, capsys.readouterr().err
    text = (planted / "report.json").read_text(encoding="utf-8")
    found = [secret for secret in SECRETS if secret.lower() in text.lower()]
    assert found == []
    report = json.loads(text)
    assert report["versions"]["glm4-edge"]
    assert report["machine"]["cpu"]["cores"] >= 1
    assert report["machine"]["servers"] == 1
    assert {"HF_TOKEN", "EDGE_API_KEY", "HTTPS_PROXY"} <= set(report["environment"])
    assert report["model"]["name"] == "(not a published one)"
    assert report["model"]["family"] == "glm4_0414"
    assert report["fits"][0]["device"] == "CPU"
    assert report["disks"]["model"]["free"] > 0
    assert report["settings"] == {
        "server.host": "set",
        "server.port": 8123,
        "server.api_key_file": "set",
        "server.allow_host": "2 set",
        "server.log_format": "json",
        "options.device": "GPU.1",
        "options.context": 4096,
        "mcp.servers": "1 set",
        "models.folders": 1,
        "kiosk": True,
    }
    lines = [line.split(" ", 2)[2] for line in report["log"] if line[:4].isdigit()]
    assert lines[: len(KNOWN)] == KNOWN
    ours = [line for line in report["log"] if "log_lines.py" in line]
    assert ours == [f"edge/diagnostics/log_lines.py:12 ({len(LOG[9][0].splitlines()[1])} characters)"]
    assert any("ValueError (10 characters)" in line for line in report["log"])


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")
def test_the_file_is_new_and_its_owners_alone(planted, capsys):
    assert main(["doctor", "--report", "report.json"]) == 0
    assert stat.S_IMODE((planted / "report.json").stat().st_mode) == 0o600
    assert main(["doctor", "--report", "report.json"]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["doctor", "--report", "no/such/folder.json"]) == 1


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("C:\\Users\\anna\\models", "~\\models"),
        ("c:\\users\\ANNA\\models", "~\\models"),
        ("anna said that hannah and ANNA-1 came", "(user) said that hannah and (user)-1 came"),
        ("key tok_123456", "key (secret)"),
        ("on PC7 of CORP", "on (user) of (user)"),
    ],
)
def test_names_of_windows(text, redacted, monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "PC7")
    environment = {
        "USERPROFILE": "C:\\Users\\anna",
        "USERNAME": "anna",
        "USERDOMAIN": "CORP",
        "COMPUTERNAME": "PC7",
        "A_TOKEN": "tok_123456",
        "B_KEY": "none",
    }
    assert Redactor(environment).redact({"a": [text]}) == {"a": [redacted]}
