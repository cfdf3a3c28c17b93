"""`edge serve` ends in order, whatever it is doing, and says nothing where it is told to."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import psutil
import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from edge.server.run import GRACE_SECONDS  # noqa: E402

from .serving import free_port  # noqa: E402
from .test_serve import ROOT, program  # noqa: E402
from .test_server import ASK, CHAT, LONG, until  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no signals")
HANGS = '''
import time

def disk_free(path: str) -> str:
    """Free disk space of a path, in GB."""
    open("started", "w").close()
    time.sleep(600)
'''


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A tool that does not come back, under the name of one that the embedded model calls."""
    (tmp_path / "hanging.py").write_text(HANGS.replace('"started"', repr(str(tmp_path / "started"))))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@contextmanager
def many(url, path, body, number):
    """Requests that are under way, and the status of each."""
    with ThreadPoolExecutor(number) as pool:
        yield [pool.submit(httpx2.post, f"{url}{path}", json=body, timeout=60) for _ in range(number)]


def engine_of(process):
    return psutil.Process(process.pid).children()[0].pid


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda how: how.name)
def test_a_signal_ends_an_idle_server(demo_folder, tmp_path, how):
    with (
        program(demo_folder.path, "--device", "CPU", log=tmp_path / "log") as (url, process),
        httpx2.Client(base_url=url) as client,
    ):
        assert client.get("/health").status_code == 200  # the connection stays open
        process.send_signal(how)
        assert process.wait(GRACE_SECONDS) == 0


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["running", "stopped"])
def test_with_requests_that_run_and_wait(demo_folder, tmp_path, engine):
    with program(demo_folder.path, "--device", "CPU", log=tmp_path / "log") as (url, process):
        with many(url, CHAT, LONG, 20) as asked:
            until(lambda: 'edge_requests_waiting{model="model"} 4.0' in httpx2.get(f"{url}/metrics").text)
            if engine == "stopped":
                os.kill(engine_of(process), signal.SIGSTOP)
            process.send_signal(signal.SIGTERM)
            assert process.wait(GRACE_SECONDS + 5) == 0
        assert {one.result().status_code for one in asked} == {503}


@pytest.mark.slow
def test_with_a_tool_that_hangs(demo_folder, tmp_path, tools):
    body = {"messages": [{"role": "user", "content": "How much disk is free on /?"}]}
    arguments = ("--device", "CPU", "--tools", "hanging:disk_free")
    with (
        program(demo_folder.path, *arguments, log=tmp_path / "log") as (url, process),
        many(url, "/chat", body, 1) as (asked,),
    ):
        until((tools / "started").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(GRACE_SECONDS) == 0
    assert '"reason":"length"' in asked.result().text


@pytest.mark.slow
def test_while_its_model_is_loaded(demo_folder):
    command = [sys.executable, "-m", "edge", "serve", str(demo_folder.path), "--device", "CPU"]
    with subprocess.Popen([*command, "--port", str(free_port())], cwd=ROOT) as process:
        until(lambda: psutil.Process(process.pid).children())
        engine = engine_of(process)
        os.kill(engine, signal.SIGSTOP)  # so that it is not done before the signal
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == -signal.SIGTERM
        with suppress(ProcessLookupError):
            os.kill(engine, signal.SIGCONT)
        until(lambda: not psutil.pid_exists(engine) or psutil.Process(engine).status() == psutil.STATUS_ZOMBIE)


@pytest.mark.slow
def test_the_line_of_each_request_is_left_out(demo_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_QUIET", "1")
    with program(demo_folder.path, "--device", "CPU", log=tmp_path / "log") as (url, _):
        assert httpx2.post(f"{url}{CHAT}", json=ASK | {"max_tokens": 2}, timeout=60).status_code == 200
    said = (tmp_path / "log").read_text()
    assert "answers OpenAI's clients" in said
    assert CHAT not in said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no second loopback address")
def test_it_is_bound_to_one_address(demo_folder, tmp_path):
    with program(demo_folder.path, "--device", "CPU", log=tmp_path / "log") as (url, process):
        found = [one.laddr.ip for one in psutil.Process(process.pid).net_connections() if one.status == "LISTEN"]
        assert found == ["127.0.0.1"]
        with pytest.raises(httpx2.TransportError):
            httpx2.get(url.replace("127.0.0.1", "127.0.0.2"))
