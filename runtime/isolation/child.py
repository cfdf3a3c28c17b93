"""The child: a process that confines itself and then runs the cells that come over its standard input.

A supervisor, which is its first stage, stays outside: it ends the notebook when the program that started it ends.
"""

import json
import os
import select
import signal
import struct
import sys
from dataclasses import asdict
from queue import SimpleQueue
from threading import Thread
from types import FrameType
from typing import IO, Any

from . import confine, system_calls
from .notebook import Notebook

_PARENT_DEATH_SIGNAL = 1
_LENGTH = struct.Struct("=I")


def main() -> None:
    """Run the process, whose settings are the JSON in its last argument."""
    settings = json.loads(sys.argv[-1])
    module_paths = settings.pop("module_paths")
    confinement = confine.Confinement(**settings | {"readable": tuple(settings["readable"])})
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    try:
        confine.prepare(confinement)
        if confinement.how != "none":
            _supervise(requests, answers)
        _silence(requests, answers)
        sys.path[:] = module_paths
        confine.restrict(confinement)
    except (confine.Unconfined, OSError) as exc:
        send(answers, {"problem": str(exc)})
        return
    send(answers, {"ready": True})
    _serve(requests, answers)


def send(stream: IO[bytes], message: dict[str, Any]) -> None:
    """Send a message: its length, then JSON."""
    data = json.dumps(message).encode()
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: IO[bytes], most: int) -> Any:
    """Receive a message of at most so many bytes. Raises EOFError, ValueError."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    if length > most:
        raise ValueError(f"a message of {length:,} bytes")
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return json.loads(data)


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    notebook = Notebook()
    cells: SimpleQueue[str] = SimpleQueue()

    def read() -> None:
        try:
            while True:
                cells.put(receive(requests, 2**31)["code"])
        except BaseException:  # the program has ended  # noqa: BLE001
            os._exit(0)

    Thread(target=read, daemon=True).start()
    while True:
        send(answers, asdict(notebook.run(cells.get())))


def _silence(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Close everything but the two pipes: what native code prints has no place in the answers."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    kept = {0, 1, 2, requests.fileno(), answers.fileno()}
    for number in range(3, 256):
        if number not in kept:
            try:
                os.close(number)
            except OSError:
                continue
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115


if sys.platform == "linux":

    def _supervise(requests: IO[bytes], answers: IO[bytes]) -> None:
        """Fork; return in the child, and end the supervisor with it, or with the program at the other end of the
        pipe."""

        class Ended(Exception):
            pass

        def end(number: int, frame: FrameType | None) -> None:
            raise Ended

        signal.signal(signal.SIGCHLD, end)
        supervisor = os.getpid()
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            system_calls.prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
            if os.getppid() not in (supervisor, 0):
                os._exit(1)
            return
        try:
            poll = select.poll()
            poll.register(requests, 0)  # only the end of the pipe
            os.close(0)
            os.close(1)
            answers.close()
            poll.poll()
        except Ended:
            pass
        finally:
            os.kill(child, signal.SIGKILL)
            os._exit(0)

else:

    def _supervise(requests: IO[bytes], answers: IO[bytes]) -> None:
        raise confine.Unconfined("processes can be confined on Linux alone")
