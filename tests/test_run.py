"""`edge run` on a hub of our own: from a name to a reply, interrupted in the download and in the conversion; and the
questions in a terminal."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edge.demo import CHECKPOINT

from .hub_server import REPOSITORY, Request
from .hub_server import hub as hub_of

pytest.importorskip("nncf")
pytest.importorskip("huggingface_hub")

ROOT = Path(__file__).resolve().parents[1]
DEMO = {file.name: file.read_bytes() for file in CHECKPOINT.iterdir() if file.is_file()}
SIZE = sum(len(data) for name, data in DEMO.items() if not name.endswith(".py"))
HALF = len(DEMO["model.safetensors"]) // 2
EDGE = (sys.executable, "-m", "edge")


@pytest.fixture
def place(tmp_path):
    """The variables of a user whose store, cache and home are empty."""
    folders = {"EDGE_MODELS": "models", "HF_HOME": "hub", "XDG_STATE_HOME": "state"}
    return {"HF_HUB_DISABLE_XET": "1"} | {name: str(tmp_path / folder) for name, folder in folders.items()}


class Half:
    """A fault: the first download of weights stops after half of them, until `go_on`."""

    def __init__(self):
        self.stopped, self.go_on = threading.Event(), threading.Event()

    def __call__(self, request: Request, path: str) -> bool:
        if self.stopped.is_set() or request.command == "HEAD" or not path.endswith(".safetensors"):
            return False
        data = DEMO[path.rsplit("/", maxsplit=1)[-1]]
        request.send_file(data, cut=len(data) // 2)
        self.stopped.set()
        self.go_on.wait(60)
        return True


def start(server, place, *words):
    environment = os.environ | place | {"HF_ENDPOINT": server.url}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*EDGE, *words], **pipes, text=True, cwd=ROOT, env=environment)


def wait_until(happened, process):
    end = time.monotonic() + 60
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


def partial_bytes(place):
    return sum(path.stat().st_size for path in Path(place["HF_HOME"]).rglob("*.part"))


def interrupted(process, number):
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX's")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
def test_from_a_name_to_a_reply_with_two_interruptions(place, number):
    """All in all, fewer bytes are downloaded than 1.2 times the checkpoint."""
    words = ("run", "glm4:9b", "Who are you?")
    store = Path(place["EDGE_MODELS"])
    fault = Half()
    with hub_of(DEMO, fault) as server:
        process = start(server, place, *words)
        wait_until(
            lambda: fault.stopped.is_set() and partial_bytes(place) > HALF - 100_000, process
        )  # all that was sent
        status, err = interrupted(process, number)
        fault.go_on.set()
        assert status in (130, -number)
        assert number == signal.SIGKILL or "the same command resumes" in err
        assert not [path for path in store.iterdir() if not path.name.startswith(".")]
        process = start(server, place, *words)
        wait_until(lambda: any(".partial-" in path.name for path in store.iterdir()), process)
        assert interrupted(process, number)[0] in (130, -number)
        assert not [path for path in store.iterdir() if not path.name.startswith(".")]
        process = start(server, place, *words)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert "glm4-edge" in out
        assert [path.name for path in store.iterdir()] == ["GLM-4-9B-0414@int4-fit"]
        assert server.sent < 1.2 * SIZE
        print(f"\n{number.name}: {server.sent:,} bytes sent, {server.sent / SIZE:.2f} times the checkpoint")
        if number == signal.SIGINT:
            return
        server.sent = 0
        out, err = start(server, place, *words).communicate(timeout=60)
        assert ("glm4-edge" in out, err, server.sent) == (True, "", 0)  # from the store


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
def test_a_person_is_asked_before_a_large_download_and_before_it_is_deleted(place):
    from .terminal import terminal

    code = "import sys; from edge.cli import main, pull; pull._LARGE_BYTES = 1; sys.exit(main(sys.argv[1:]))"
    with hub_of(DEMO) as server:
        environment = place | {"HF_ENDPOINT": server.url}
        with terminal([sys.executable, "-c", code, "pull", "glm4:9b"], environment=environment, cwd=ROOT) as opened:
            assert "GLM-4-9B-0414, int4-fit: 8." in opened.wait_for("Download 8.1 MB? [y/N] ")
            opened.type("n\n")
            assert opened.end() == 1
        with terminal([sys.executable, "-c", code, "run", "glm4:9b"], environment=environment, cwd=ROOT) as opened:
            opened.wait_for("Download 8.0 MB? [y/N] ")  # the small files are there
            opened.type("y\n")
            opened.wait_for("Delete the download of 8.1 MB? The model no longer needs it. [y/N] ")
            opened.type("y\n")
            opened.wait_for("\n>")
            opened.type("Who are you?\n")
            assert "glm4-edge" in opened.wait_for("\n>")
            opened.type("/exit\n")
            assert opened.end() == 0
    assert not (Path(place["HF_HOME"]) / "hub" / f"models--{REPOSITORY.replace('/', '--')}").exists()
