"""A model folder with a damaged byte answers right or is refused by the file's name; it never crashes or rambles.

`python -m pytest tests/test_hostile_folders.py -k damaged_folders --folders 500 -s` tries more and prints the figures.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path
from threading import Timer

import pytest

import edge
from edge.cli import main
from runtime.errors import BackendError, EdgeError, ModelFolderError
from runtime.folder import integrity as folder_check
from runtime.folder.model_folder import ModelFolder

SPOTS = 6  # in each of a dozen files
KINDS = ("right", "refused", "crash", "nonsense", "traceback", "bad refusal")
HANGS = 60  # seconds after which a chat counts as crashed
QUESTION = "Who are you?"


@pytest.fixture
def copied(demo_folder, tmp_path):
    return shutil.copytree(demo_folder.path, tmp_path / "model")


@pytest.fixture(scope="module")
def right(demo_folder):
    return ask(demo_folder.path)


def ask(path, **more):
    with warnings.catch_warnings(), edge.Chat(path, device="CPU", **more) as chat:
        warnings.simplefilter("ignore")
        return chat.send(QUESTION).text


def flip(path, place, bit):
    """Through the file system, as a failing disk or a bad copy does."""
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))


@pytest.mark.slow
def test_one_flipped_bit_is_a_right_answer_or_a_refusal(copied, right):
    chance = random.Random(14)
    names = sorted(file.name for file in copied.iterdir())
    answered, refused = [], []
    for name in names:
        for _ in range(SPOTS):
            place, bit = chance.randrange((copied / name).stat().st_size), chance.randrange(8)
            flip(copied / name, place, bit)
            try:
                answered.append((name, ask(copied, in_process=True)))
            except EdgeError as exc:
                refused.append((name, str(exc), exc.hint))
            flip(copied / name, place, bit)
    assert len(names) * SPOTS >= 60
    assert [said for said in refused if said[0] not in said[1] or "\n" in said[1] or len(said[1]) > 500] == []
    assert all(hint for _, _, hint in refused)
    assert all(answer == right for _, answer in answered)
    assert {name for name, _ in answered} <= {"edge.json"}  # whose layout means nothing
    assert ask(copied) == right


class Chats:
    """The process of tests/folder_chat.py, started again where it has crashed or hangs."""

    def __init__(self):
        self._process = None

    def ask(self, path):
        """Its answer, or what became of it: {"crash": …}."""
        if self._process is None:
            command = [sys.executable, "-m", "tests.folder_chat"]
            root = Path(__file__).resolve().parents[1]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self._process = subprocess.Popen(command, text=True, cwd=root, **pipes)
        with suppress(BrokenPipeError):
            print(path, file=self._process.stdin, flush=True)
        timer = Timer(HANGS, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        return json.loads(line) if line else {"crash": self.close()}

    def close(self):
        """The exit status."""
        with suppress(BrokenPipeError):
            self._process.communicate()
        status, self._process = self._process.returncode, None
        return status


def damage(folder, chance):
    """Flips one bit; returns what was done. Half of the bits are anywhere, half in a file that is chosen first. A third
    of the files have their time of change put back."""
    files = sorted(folder.iterdir())
    sizes = [file.stat().st_size for file in files]
    (number,) = chance.choices(range(len(files)), sizes if chance.random() < 0.5 else None)
    path, place, bit = files[number], chance.randrange(sizes[number]), chance.randrange(8)
    times = path.stat()
    flip(path, place, bit)
    if chance.random() < 1 / 3:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return path, place, bit


@pytest.mark.slow
def test_damaged_folders_answer_right_or_are_refused(request, copied, right):
    """Every tenth in the engine's own process, as applications have it; every fifth just after a good check."""
    count, chance, chats = request.config.getoption("--folders"), random.Random(2026), Chats()
    found = Counter()
    wrong = []
    for number in range(count):
        if number % 5 == 0:
            assert chats.ask(copied) == {"answer": right}
        path, place, bit = damage(copied, chance)
        answer = chats.ask(f"process {copied}" if number % 10 == 0 else copied)
        flip(path, place, bit)
        (kind, text), *_ = answer.items()
        if kind == "answer":
            kind = "right" if text == right else "nonsense"
        elif kind == "refused" and ("has died" in text or path.name not in text or "\n" in text or not answer["hint"]):
            kind = "crash" if "has died" in text else "bad refusal"
        found[kind] += 1
        if kind not in ("right", "refused"):
            wrong.append((number, path.name, place, bit, kind, text))
    assert chats.ask(copied) == {"answer": right}
    chats.close()
    print(f"\n{count} folders: " + ", ".join(f"{kind} {found[kind]}" for kind in KINDS))
    assert wrong == []
    assert found["refused"] > count / 2


def test_damaged_weights_end_the_loading_beside_which_they_are_hashed(copied):
    size = (copied / "openvino_model.bin").stat().st_size
    flip(copied / "openvino_model.bin", size // 2, 3)
    with pytest.raises(ModelFolderError, match=r"openvino_model\.bin is damaged") as caught:
        ask(copied)
    assert caught.value.hint


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows cuts no file that is mapped")
def test_weights_that_become_shorter_end_the_engine_alone(copied, right):
    with warnings.catch_warnings(), edge.Chat(copied, device="CPU") as chat:
        warnings.simplefilter("ignore")
        assert chat.send(QUESTION).text == right
        os.truncate(copied / "openvino_model.bin", 0)
        with pytest.raises(BackendError, match="has died: a file of its model became shorter"):
            chat.send("When do you open?")
    with pytest.raises(ModelFolderError, match=r"openvino_model\.bin has 0 bytes"):
        ask(copied)


def test_weights_are_hashed_again_only_where_they_have_changed(copied, monkeypatch):
    folder, weights = ModelFolder.open(copied), copied / "openvino_model.bin"
    hashed = []
    record = folder_check.write_record
    monkeypatch.setattr(folder_check, "write_record", lambda *given: (hashed.append(given[1]), record(*given)))

    def looks():
        hashed.clear()
        with folder_check.verify_while_loading(folder):
            pass
        return len(hashed)

    assert [looks(), looks()] == [1, 0]
    os.utime(weights, ns=(1, 1))
    assert [looks(), looks()] == [1, 0]
    other = weights.with_name("other")
    shutil.copy2(weights, other)
    other.replace(weights)
    assert [looks(), looks()] == [1, 0]
    status = weights.stat()
    flip(weights, 1000, 1)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ModelFolderError, match=r"openvino_model\.bin"):
        looks()
    flip(weights, 1000, 1)
    assert looks() == 1


def test_a_conversion_counts_as_a_check(demo_folder, monkeypatch):
    monkeypatch.setattr(folder_check, "write_record", lambda *given: pytest.fail("the weights were hashed again"))
    with folder_check.verify_while_loading(ModelFolder.open(demo_folder.path)):
        pass


@pytest.mark.slow
def test_who_wants_no_look_gets_none(copied, right, monkeypatch, capsys):
    generation = copied / "generation_config.json"
    generation.write_bytes(generation.read_bytes().replace(b"{\n ", b"{\n\t", 1))
    with pytest.raises(ModelFolderError, match=r"generation_config\.json is damaged"):
        ask(copied)
    assert ask(copied, options=edge.Options(verify=False)) == right
    monkeypatch.setattr("edge.cli.chat.read_stdin", lambda: QUESTION)
    monkeypatch.setattr("edge.cli.chat.is_terminal", lambda stream: False)
    assert main(["chat", str(copied), "--device", "CPU"]) == 1
    assert "generation_config.json is damaged" in capsys.readouterr().err
    assert main(["chat", str(copied), "--device", "CPU", "--no-verify"]) == 0
    assert capsys.readouterr().out.strip() == right


@pytest.mark.slow
def test_a_folder_from_before_the_manifest_had_a_hash_loads(copied, right):
    manifest = json.loads((copied / "edge.json").read_text())
    del manifest["sha256"]
    (copied / "edge.json").write_text(json.dumps(manifest))
    assert ask(copied) == right


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
@pytest.mark.parametrize("name", ["edge.json", "chat_template.jinja", "openvino_model.bin"])
def test_what_would_block_is_refused(copied, name):
    (copied / name).unlink()
    os.mkfifo(copied / name)
    with pytest.raises(ModelFolderError, match="regular file"):
        ModelFolder.open(copied)
