"""Processes of our own: what scripts need not do, what they cannot be kept from finding, when they end."""

import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from runtime.backends.child import Child

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
import sys
sys.path.insert(0, {root!r})
import edge
chat = edge.Chat({folder!r}, device="CPU")
print(chat.send("Who are you?").text)
print("once")
"""


def echo(pipe):
    """What the children of these tests do."""
    print("it works")
    while True:
        pipe.send((os.getpid(), sys.path[0], pipe.recv()))


@pytest.fixture
def child():
    with closing(Child("tests.test_child:echo")) as child:
        yield child


@pytest.mark.parametrize("how", ["a file", "standard input", "-c"])
def test_a_script_needs_no_guard_of_its_main_module(demo_folder, tmp_path, how):
    """It runs once, in a folder whose files have the names of modules that the worker needs."""
    for name in ("queue.py", "runtime.py", "numpy.py", "random.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong file')")
    script = SCRIPT.format(root=str(ROOT), folder=str(demo_folder.path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "script.py").write_text(script)
    given = {"a file": "elsewhere/script.py", "standard input": "-", "-c": "-c"}[how]
    command = [sys.executable, "-P", given, *([script] if how == "-c" else [])]
    done = subprocess.run(
        command,
        check=False,
        input=script if given == "-" else "",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("once") == 1
    assert "tiny test model" in done.stdout
    assert not done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows numbers no streams")
def test_a_program_without_standard_streams_has_an_engine(demo_folder, tmp_path):
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); [os.close(fd) for fd in range(3)]\n"
        "import edge\n"
        "with edge.Chat(sys.argv[2], device='CPU') as chat: said = chat.send('Who are you?').text\n"
        "open(sys.argv[3], 'w').write(said)"
    )
    command = [sys.executable, "-c", code, str(ROOT), str(demo_folder.path), str(tmp_path / "said")]
    subprocess.run(command, check=True, timeout=60)
    assert "tiny test model" in (tmp_path / "said").read_text()


def test_a_child_answers_and_what_it_prints_is_kept(child):
    child.pipe.send("hello")
    pid, _, said = child.pipe.recv()
    assert (pid, said) == (child.pid, "hello")
    assert child.running
    assert child.problem(working=True) == ""
    assert child.usage()[1] > 1 << 20
    child.kill()
    assert child.problem(working=True) == "has died"
    assert child.usage() == (0.0, 0)
    for _ in range(100):
        if child.last_words:
            break
        time.sleep(0.05)
    assert child.last_words == "it works"


def test_a_child_ends_with_its_pipe(child):
    child.pipe.send("hello")
    child.pipe.recv()
    child.pipe.close()
    child._process.wait(10)
    assert not child.running


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it ends when it next reads the pipe")
def test_a_child_ends_with_its_parent_even_where_it_is_stopped(tmp_path):
    import psutil

    parent = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "from runtime.backends.child import Child\n"
        "child = Child('tests.test_child:echo'); child.pipe.send(1); child.pipe.recv()\n"
        "os.kill(child.pid, signal.SIGSTOP); print(child.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", parent, str(ROOT)], check=False, capture_output=True, text=True, timeout=60
    )
    pid = int(done.stdout)
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie":
            return
        time.sleep(0.1)
    pytest.fail("it is still there")


@pytest.mark.slow
def test_first_requests_of_several_threads_at_once_do_not_wait_for_ever(demo_folder):
    """Each in a fresh process. `python -m benchmarks.threads` does it a hundred times."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import edge, threading\n"
        "backend = edge.Model(sys.argv[2], device='CPU', in_process=True).backend\n"
        "gate = threading.Barrier(8)\n"
        "def one():\n"
        "    gate.wait()\n"
        "    for _ in range(30): backend.encode(('<|user|>\\nWho are you?', '<|assistant|>'))\n"
        "threads = [threading.Thread(target=one) for _ in range(8)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
    )
    for _ in range(4):
        command = [sys.executable, "-c", script, str(ROOT), str(demo_folder.path)]
        assert subprocess.run(command, check=False, timeout=60, capture_output=True).returncode == 0
