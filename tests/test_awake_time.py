"""Sleep and resume: no time limit passes while the machine sleeps or a process is stopped, and work goes on then."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge.demo import CHECKPOINT
from runtime import tool_run
from runtime.backends import child
from runtime.cancellation import Cancellation
from runtime.folder.model_folder import ModelFolder
from runtime.system import awake_time

NIGHT = 8 * 3600.0
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")


class Clock:
    """A clock that a test sets; `sleeps` makes the next look a night later, as if the machine had slept."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(awake_time, "awake_time", found)
    return found


def test_a_polled_clock_counts_no_gap(clock):
    polled = awake_time.PolledClock(longest=1.0)
    for _ in range(10):
        clock.now += 0.2
        assert polled.seconds == pytest.approx(clock.now)
    clock.now += NIGHT
    assert polled.seconds == pytest.approx(3.0)


def test_an_engine_is_not_lost_after_a_night(clock, monkeypatch):
    """It used no CPU time between two looks, since the machine slept."""
    watch = child._Watch(os.getpid())
    monkeypatch.setattr(watch, "usage", lambda: (1.0, 0))
    for _ in range(5):
        clock.now += 1
        assert watch.problem(working=True, idle=15) == ""
    clock.now += NIGHT
    assert watch.problem(working=True, idle=15) == ""
    found = ""
    for _ in range(20):
        clock.now += 1
        found = found or watch.problem(working=True, idle=15)
    assert found == "does nothing"


def test_an_idle_model_is_as_idle_as_in_the_evening(monkeypatch):
    idle_watch = pytest.importorskip("edge.server.pool.idle_watch")
    clock = Clock()
    monkeypatch.setattr(idle_watch, "awake_time", clock)
    idle = idle_watch.IdleTime(600)
    idle.touch()
    clock.now += 100  # Windows' monotonic clock goes on at night; this one does not
    monkeypatch.setattr(time, "monotonic", lambda: NIGHT)
    assert idle.left == 500


def test_the_servers_limits_do_not_run_at_night(monkeypatch):
    """Windows' monotonic clock goes on; the server's loop does not look at it."""
    run = pytest.importorskip("edge.server.run")
    real, night = time.monotonic, 0.0
    monkeypatch.setattr(run, "awake_time", real)
    monkeypatch.setattr(asyncio.base_events.time, "monotonic", lambda: real() + night)

    async def reply():
        nonlocal night
        async with asyncio.timeout(2):
            await asyncio.sleep(0.05)
            night = NIGHT
            await asyncio.sleep(0.05)
            return "whole"

    with asyncio.Runner(loop_factory=run.new_event_loop) as runner:
        assert runner.run(reply()) == "whole"
    night = 0.0
    with pytest.raises(TimeoutError):
        asyncio.run(reply())


TOOL = """
import json, sys, time
from runtime import tool_run
from runtime.cancellation import Cancellation

def work():
    print("works", flush=True)
    for _ in range(10):
        time.sleep(0.05)
    return "done"

worker = tool_run.ToolWorker()
output, error = tool_run.run(
    "tool", work, str, timeout=2.5, longest=100, cancellation=Cancellation(), worker=worker
)
print(json.dumps([output.text, error]))
"""


def pause(process, seconds):
    process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    process.send_signal(signal.SIGCONT)


@posix
def test_a_tool_of_a_stopped_process_has_its_time():
    with subprocess.Popen([sys.executable, "-c", TOOL], stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout.readline() == "works\n"
        pause(process, 3.5)
        assert json.loads(process.stdout.read()) == ["done", False]


def test_a_tool_that_takes_too_long_is_still_told_so():
    worker = tool_run.ToolWorker()
    begun = time.monotonic()
    output, error = tool_run.run(
        "tool", lambda: time.sleep(5), str, timeout=0.5, longest=100, cancellation=Cancellation(), worker=worker
    )
    assert (output.text, error) == ("tool did not finish within 0.5 seconds", True)
    assert time.monotonic() - begun < 2


SERVER = """
import sys
from runtime.backends import child
child.STOPPED, child.IDLE, child._LONGEST_LOOK = 1.0, 1.5, 1.2
from edge.cli import main
sys.exit(main(sys.argv[1:]))
"""


@posix
@pytest.mark.slow
def test_a_reply_goes_on_after_a_sleep(tmp_path, demo_folder):
    """The server and its engine are stopped in mid-reply for longer than an engine may do nothing."""
    httpx2 = pytest.importorskip("httpx2")
    psutil = pytest.importorskip("psutil")
    from .serving import free_port
    from .test_server import until

    port = free_port()
    words = ["serve", str(demo_folder.path), "--port", str(port)]
    with subprocess.Popen([sys.executable, "-c", SERVER, *words]) as server:
        try:
            url = f"http://127.0.0.1:{port}"

            def answers():
                try:
                    return httpx2.get(f"{url}/ready").status_code == 200
                except httpx2.HTTPError:
                    return False

            until(answers)
            ask = {"prompt": "one two three", "max_tokens": 300, "stream": True, "ignore_eos": True}
            with httpx2.stream("POST", f"{url}/v1/completions", json=ask, timeout=60) as reply:
                lines = reply.iter_lines()
                assert next(lines).startswith("data: {")
                everything = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
                for one in everything:
                    one.suspend()
                time.sleep(4)
                for one in reversed(everything):
                    one.resume()
                rest = [line for line in lines if line]
            assert rest[-1] == "data: [DONE]"
            assert "error" not in rest[-2]
            assert (
                httpx2.post(f"{url}/v1/completions", json=ask | {"stream": False, "max_tokens": 3}).status_code == 200
            )
        finally:
            server.terminate()


@posix
@pytest.mark.slow
def test_a_conversion_goes_on_after_a_sleep(tmp_path):
    words = ["convert", str(CHECKPOINT), str(tmp_path / "out"), "--quiet"]
    with subprocess.Popen([sys.executable, "-m", "edge", *words], cwd=Path(__file__).parents[1]) as process:
        end = time.monotonic() + 60
        while not any(tmp_path.glob(".out.partial-*/openvino_model.bin")) and time.monotonic() < end:
            time.sleep(0.01)
        pause(process, 3)
        assert process.wait(100) == 0
    ModelFolder.open(tmp_path / "out").verify()
