"""The sandbox of the tool python, attacked: each row runs on the real one.

Run as the superuser, Landlock alone is refused where only the superuser can read Python's files; as another user
(tests/environments/python_tool.sh) each row runs in namespaces and under Landlock.
"""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime.errors import ToolError
from runtime.isolation.session import CONFINED, PythonSession, SessionLimits, find_confinement

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux'")
BRIEF = SessionLimits(seconds=2)


def is_offered(how):
    opened = PythonSession(how, BRIEF)
    try:
        return opened.run("1").text == "1\n"
    except ToolError:
        return False
    finally:
        opened.close()


@pytest.fixture(scope="module", params=[how for how in CONFINED if sys.platform == "linux" and is_offered(how)])
def session(request):
    opened = PythonSession(request.param, BRIEF)
    yield opened
    opened.close()


def test_this_machine_has_a_sandbox():
    assert find_confinement() in CONFINED


def test_cells_are_those_of_a_notebook(session):
    def run(code):
        return session.run(code).text

    assert run("x = 20\nprint('a')\nx + 1") == "a\n21\n"
    assert run("x") == "20\n"
    assert run("_ + 1") == "21\n"
    assert run("y = 1") == ""
    assert run("None") == ""
    assert run("%matplotlib inline\nx") == "20\n"
    assert run("def double(n):\n    return 2 * n\n\ndouble(x)") == "40\n"
    assert run("import sys; print('e', file=sys.stderr)") == "e\n"
    failed = session.run("def fail():\n    return 1 / 0\n\nfail()")
    assert failed.error
    assert failed.text.startswith('Traceback (most recent call last):\n  File "<cell ')
    assert "return 1 / 0" in failed.text
    assert failed.text.endswith("ZeroDivisionError: division by zero\n")
    assert "SyntaxError" in run("x +")
    assert "EOFError" in run("input()")
    assert "SystemExit" in run("import sys; sys.exit(3)")
    assert run("x") == "20\n"  # none of these lost a variable
    assert run("open('a.txt', 'w').write('kept')") == "4\n"
    assert run("open('a.txt').read()") == "'kept'\n"


def test_plots_are_pictures(session):
    pytest.importorskip("matplotlib")
    slow = PythonSession(session._how)  # the first import of matplotlib reads all fonts
    try:
        found = slow.run("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\nplt.figure()\nplt.plot([3])")
        assert [picture[:8] for picture in found.pictures] == [b"\x89PNG\r\n\x1a\n"] * 2, found
        assert slow.run("1").pictures == ()
    finally:
        slow.close()


CLEAN = "import os\nfor n in os.listdir('.'):\n    os.path.isfile(n) and os.remove(n)\nb = f = None"
REFUSED = {
    "a connection": "import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)",
    "a datagram": "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('1.1.1.1', 53))",
    "a local socket": "import socket\nsocket.socket(socket.AF_UNIX)",
    "a name": "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "http": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:{port}/')",
    "a file outside": "open({outside!r}).read()",
    "the users": "open('/etc/passwd').read()",
    "a link to a file outside": "import os\nos.symlink({outside!r}, 'link{number}')\nopen('link{number}').read()",
    "a hard link": "import os\nos.link({outside!r}, 'hard{number}')\nopen('hard{number}').read()",
    "the folder above": "import os\nopen('../outside').read()",
    "the folders": "import os\nos.listdir({folder!r})",
    "a process's variables": "open('/proc/self/environ', 'rb').read()",
    "writing outside": "open({folder!r} + '/new', 'w')",
    "writing to the packages": "import os\nopen(os.__file__, 'a')",
    "writing to /": "open('/new', 'w')",
    "writing to /tmp": "open('/tmp/new-{number}', 'w')",
    "shared memory": "open('/dev/shm/new-{number}', 'w')",
    "removing": "import os\nos.remove({outside!r})",
    "renaming": "import os\nos.rename({outside!r}, {outside!r} + '2')",
    "shortening": "import os\nos.truncate({outside!r}, 0)",
    "permissions": "import os\nos.chmod({outside!r}, 0o777)",
    "times": "import os\nos.utime({outside!r})",
    "a process": "import os\nos.fork()",
    "a program": "import subprocess\nsubprocess.run(['/bin/true'])",
    "a shell": "import os\nassert os.system('true') == 0, 'refused'",
    "becoming a program": "import os\nos.execv('/bin/true', ['true'])",
    "a pool": "import multiprocessing\nmultiprocessing.get_context('fork').Process(target=print).start()",
    "a fork bomb": "import os\nwhile True:\n    os.fork()",
    "killing": "import os\nos.kill({pid}, 9)",
    "tracing": "import ctypes, os\nassert ctypes.CDLL(None).ptrace(16, {pid}, 0, 0) == 0, 'refused'",
    "mounting": "import ctypes\nassert ctypes.CDLL(None).mount(b'a', b'/', b'tmpfs', 0, None) == 0, 'refused'",
    "namespaces": "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0, 'refused'",
    "io_uring": "import ctypes\nassert ctypes.CDLL(None).syscall(425, 1, ctypes.create_string_buffer(120)) >= 0, 'no'",
    "outliving us": "import ctypes\nassert ctypes.CDLL(None).prctl(1, 0) == 0, 'refused'",
    "a session": "import os\nos.setsid()",
    "512 MB at once": "b = bytearray(520 * 2**20)",
    "512 MB in pieces": "b = []\nwhile True:\n    b.append(bytearray(2**20))",
    "memory that is shared": "import mmap\nmmap.mmap(-1, 520 * 2**20)",
    "memory as a file": "import os\nos.memfd_create('a')",
    "a large file": "with open('big{number}', 'wb') as f:\n    for _ in range(80):\n        f.write(bytes(2**20))",
    "a hundred thousand threads": "import threading, time\n"
    "for _ in range(100_000):\n    threading.Thread(target=time.sleep, args=(1,), daemon=True).start()",
    "open files": "f = [open('/dev/null') for _ in range(1000)]",
    "more memory": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))",
}


@pytest.mark.parametrize("attack", REFUSED)
def test_it_is_refused_and_the_session_goes_on(attack, session, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("a secret")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)  # what stops it is not this
    outside.chmod(0o666)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code = REFUSED[attack].format(
            port=listener.getsockname()[1],
            outside=str(outside),
            folder=str(tmp_path),
            pid=os.getpid(),
            number=time.monotonic_ns(),
        )
        session.run("kept = 7")
        result = session.run(code)
        assert result.error, result
        assert "secret" not in result.text
        assert not result.lost, result
        listener.settimeout(0.05)
        with pytest.raises(TimeoutError):
            listener.accept()
    assert outside.read_text() == "a secret"
    assert oct(outside.stat().st_mode)[-3:] == "666"
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]
    assert session.run(f"{CLEAN}\nkept").text == "7\n"


ENDED = {
    "a loop": ("while True: pass", "longer than 2 seconds"),
    "a loop in C": ("9**9**9", "longer than 2 seconds"),
    "sleeping": ("import time; time.sleep(60)", "longer than 2 seconds"),
    "ignoring signals": (
        "import signal, time\nfor n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\ntime.sleep(60)",
        "longer than 2 seconds",
    ),
    "leaving": ("import os; os._exit(0)", "ended"),
    "a crash": ("import ctypes; ctypes.string_at(0)", "ended"),
    "closing everything": ("import os; os.closerange(0, 256)", ""),
    "a forged answer": (
        "import os\nfor n in range(3, 64):\n    try: os.write(n, b'\\xff' * 64)\n    except OSError: pass",
        "",
    ),
}


@pytest.mark.parametrize("attack", ENDED)
def test_what_does_not_end_is_ended(attack, session):
    code, reason = ENDED[attack]
    session.run("gone = 1")
    begun = time.monotonic()
    result = session.run(code)
    assert time.monotonic() - begun < 5
    assert result.lost
    assert reason in result.lost
    assert "NameError" in session.run("gone").text
    assert session.run("1 + 1").text == "2\n"


@pytest.mark.slow
def test_a_call_ends_after_ten_seconds():
    session = PythonSession(find_confinement())
    begun = time.monotonic()
    try:
        assert session.run("while True: pass").lost == "the code ran longer than 10 seconds"
    finally:
        session.close()
    assert 9.9 < time.monotonic() - begun < 13


def test_many_files_fill_the_folder_alone(session):
    result = session.run("for n in range(100_000):\n    open(f'f{n}', 'w').write('x' * 5000)")
    assert result.error
    assert result.lost == "" or "larger than 128 MB" in result.lost
    session.run(CLEAN)


def test_variables_and_descriptors_of_ours_do_not_come_along(session, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "a secret")
    secret = os.open(tmp_path / "secret", os.O_CREAT | os.O_RDWR)
    os.write(secret, b"a secret")
    os.set_inheritable(secret, True)
    fresh = PythonSession(session._how, BRIEF)
    try:
        assert "SECRET" not in fresh.run("import os; dict(os.environ)").text
        code = "import os\nfound = []\nfor n in range(256):\n    try: found.append(os.fstat(n).st_mode & 0o170000)\n"
        kinds = fresh.run(f"{code}    except OSError: pass\nfound").text
        assert kinds == str([0o020000] * 3 + [0o010000] * 2) + "\n"  # /dev/null, and two pipes
    finally:
        fresh.close()
        os.close(secret)


def test_output_is_bounded(session):
    result = session.run("for _ in range(2000): print('x' * 1000)")
    assert 32_000 <= len(result.text) < 32_100
    assert result.text.endswith("further characters]")
    assert len(session.run("class A:\n    def __repr__(self): return 'x' * 10**7\nA()").text) < 32_100


def test_it_ends_with_the_program_that_started_it(session, tmp_path):
    marker = f"edge-test-{time.monotonic_ns()}"
    program = (
        "import sys, os, signal, threading, time\n"
        "from runtime.isolation.session import PythonSession, SessionLimits\n"
        f"s = PythonSession({session._how!r}, SessionLimits(seconds=60))\n"
        "threading.Thread(target=s.run, args=('while True: pass',), daemon=True).start()\n"
        "time.sleep(1.5)\n"
        "print(s._process._started.pid, flush=True)\n"
        f"os.kill(os.getpid(), signal.SIGKILL)  # {marker}\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    group = int(done.stdout)
    end = time.monotonic() + 5
    while _group_members(group) and time.monotonic() < end:
        time.sleep(0.05)
    assert _group_members(group) == []


def _group_members(group):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, members = path.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(members) == group and state != "Z":
            found.append(path.parent.name)
    return found


def test_a_cell_that_runs_is_ended_by_closing(session):
    from threading import Thread

    own = PythonSession(session._how, SessionLimits(seconds=60))
    own.run("1")
    thread = Thread(target=own.run, args=("while True: pass",))
    thread.start()
    time.sleep(0.3)
    folder = own._process.folder
    own.close()
    thread.join(5)
    assert not thread.is_alive()
    assert not folder.exists()


def test_a_program_that_ends_without_closing_leaves_no_folder(session, tmp_path):
    program = (
        f"from runtime.isolation.session import PythonSession\nprint(PythonSession({session._how!r}).run('1').text)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert done.stdout == "1\n\n"
    assert list(tmp_path.iterdir()) == []
