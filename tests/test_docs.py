"""Every page is followed to the letter: each block of both READMEs and of docs/ runs, in order, in a folder of its own.

The folder has what the pages assume: the embedded checkpoint in the place of the real ones, its model folder in the
place of converted ones, some texts. The rules:

- ```python runs in one namespace per page; "```python no-run: REASON" does not.
- "```toml kiosk.toml", "```python tools.py": a second word names the file that the block becomes.
- An indented block, or ```sh, is a list of command lines. `edge …` runs in this process, with a question on standard
  input; `edge serve` in its own, until the page's next `edge serve` or its end, on a port of its own. What cannot run
  here is in NOT_RUN with the reason: it is parsed. `edge` in ```powershell and within a sentence is parsed, too.
- Of `pip install`, `python -m` and scripts, the extras, modules and files exist.
- A Chinese page has the commands of the English one (tests/test_chinese.py), where they run: but for `edge serve`, they
  are parsed.
"""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.request
import warnings
import wave
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edge.cli import main, parser
from edge.demo import CHECKPOINT
from runtime.folder.model_folder import MANIFEST

from .quantized import awq, fp8, write_quantized
from .serving import free_port

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "README.zh.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]

STORED = ("GLM-4-9B-0414@int4", "GLM-4-9B-0414@int8", "GLM-Z1-9B-0414@int8")  # in the user's store
CHECKPOINTS = ("GLM-4-9B-0414", "zai-org/GLM-4-9B-0414", "GLM-4-32B-0414")
MODEL_FOLDERS = ("glm4-int4", "glm4-base", "glm4-npu", "glm-edge-int4")
OPENVINO_FOLDER = "glm4-openvino"  # as another program exports it
NOT_RUN = {
    r"--device (GPU|NPU\b|ipex|http)": "a device or a server that is not here",
    r"--exporter optimum|\.onnx|exported": "an environment of its own: tests/test_optimum.py, tests/test_onnx.py",
    r"--revision|:\S+\.gguf": "downloads: tests/test_hub_names.py",
    r"^eval|gptq|scale": "minutes: tests/test_evaluation.py, tests/test_nncf.py",
    r"^convert \./GLM-4-32B": "named for its size",
    r"glm-?4v": "a vision model: tests/test_picture_apis.py",
    r"--uds": "no port: tests/test_listener.py",
    r"^rm ": "it asks in a terminal: tests/test_store.py",
    r"^service update": "a service that runs: tests/test_service_update.py",
    r"^kernel": "it compiles: tests/test_int4_kernel.py",
    r"--tune": "many loads: tests/test_tuning.py",
    r"^bundle ": "downloads: tests/test_bundle.py, tests/environments/bundle.sh",
    r"^mcp ": "it talks over the standard streams until they end: tests/test_mcp_server.py",
}
# Of the embedded checkpoint: four times its own, as 131072 is GLM-4-0414's, and all of its own.
_CONTEXTS = {"131072": "8192", "16384": "2048"}
# Others' programs and the shell's own: not run. The agents are, in tests/test_agents.py.
_PROGRAMS = tuple(
    "chromium tailscale vllm . cd sudo npm node pyinstaller export claude codex opencode aider cn lm_eval".split()
)


@dataclass(frozen=True)
class Block:
    """A block of a page: its language ("" if it is indented), the rest of its info string, its text, its first line."""

    language: str
    info: str
    text: str
    line: int


def blocks(page: str) -> Iterator[Block]:
    lines = page.splitlines()
    place = 0
    while place < len(lines):
        start, line = place, lines[place]
        place += 1
        if fence := re.match(r"(`{3,})(\S*) ?(.*)$", line):
            while lines[place] != fence[1]:
                place += 1
            yield Block(fence[2] or "text", fence[3], "\n".join(lines[start + 1 : place]) + "\n", start + 1)
            place += 1
        elif line.startswith("    ") and (start == 0 or not lines[start - 1].strip()):
            while place < len(lines) and lines[place].startswith("    "):
                place += 1
            yield Block("", "", "\n".join(line[4:] for line in lines[start:place]) + "\n", start + 1)


def command_lines(text: str) -> Iterator[list[str]]:
    """The commands of a shell block as lists of words. A pipe's commands are one list, with "|" between them."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            yield words[:end]
            words = words[end + 1 :]


def in_context(setting: re.Match[str]) -> str:
    """A line `context = N` of a settings file, as the embedded checkpoint can have it."""
    return f"context = {_CONTEXTS.get(setting[1], setting[1])}"


def extras() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return set(project["project"]["optional-dependencies"])


class Reader:
    """A person who does what a page says, in a folder."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.translated = False
        self.names: dict[str, object] = {"__name__": "docs"}
        self.server: subprocess.Popen[bytes] | None = None
        self.port = ""

    def follow(self, block: Block) -> None:
        if block.info and not block.info.startswith("no-run: "):
            file = self.folder / block.info
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(re.sub(r"(?m)^context = (\d+)$", in_context, block.text), encoding="utf-8")
        elif block.language == "python" and not block.info:
            text = "\n" * block.line + self.at_port(block.text)
            exec(compile(text, "page", "exec", dont_inherit=True), self.names)
        elif block.language in ("", "sh"):
            for words in command_lines(block.text):
                self.run(words)
        elif block.language == "powershell":
            for line in block.text.splitlines():
                if line.startswith("edge "):
                    assert parser().parse_args(shlex.split(line, comments=True)[1:]).run

    def at_port(self, text: str) -> str:
        return re.sub(r"(127\.0\.0\.1|localhost):80\d\d", rf"127.0.0.1:{self.port}", text) if self.port else text

    def run(self, words: list[str]) -> None:
        typed = "Who are you?"
        if "|" in words:
            assert words[0] == "echo", words
            typed, words = words[1], words[words.index("|") + 1 :]
        environment = {}
        while re.match(r"[A-Z_]+=", words[0]):
            name, _, environment[name] = words.pop(0).partition("=")
        program, *arguments = words
        steps: dict[str, Callable[[list[str]], None]] = {"pip": self.pip, "python": self.python, "curl": self.curl}
        if program == "edge":
            self.edge(arguments, typed, environment)
        elif program in steps:
            steps[program](arguments)
        elif re.fullmatch(r"python3[.\d]*", program):
            self.python(arguments)
        elif "/" in program:
            assert (ROOT / program).is_file(), program
        else:
            assert program in _PROGRAMS, words

    def edge(self, arguments: list[str], typed: str, environment: dict[str, str]) -> None:
        assert parser().parse_args(arguments).run
        line = shlex.join(arguments)
        if any(re.search(pattern, line) for pattern in NOT_RUN):
            return
        arguments = [_CONTEXTS.get(argument, argument) for argument in arguments]
        verb = arguments[0]
        if verb == "serve":
            self.serve(arguments, environment)
            return
        if self.translated:
            return
        if verb == "service":  # the machine stays as it is
            arguments = [*arguments, "--print"]
        if verb == "convert" and (self.folder / arguments[2]).name in MODEL_FOLDERS:
            shutil.rmtree(self.folder / arguments[2], ignore_errors=True)
        if environment.get("PYTHONPATH") == ".":
            self.patch.syspath_prepend(self.folder)
        self.patch.setattr(sys, "stdin", io.StringIO(typed))
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # the command prints them
            assert main(arguments) == 0, line

    def serve(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.stop()
        self.port = str(free_port())
        if "--port" in arguments:
            del arguments[arguments.index("--port") : arguments.index("--port") + 2]
        paths = (str(ROOT), str(self.folder) if environment.get("PYTHONPATH") == "." else "")
        environment |= {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "EDGE_QUIET": "1"}
        log = (self.folder / "server.log").open("wb")
        self.server = subprocess.Popen(
            [sys.executable, "-P", "-m", "edge", *arguments, "--port", self.port],
            cwd=self.folder,
            env=os.environ | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        log.close()
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=10):
                return
            assert self.server.poll() is None, (self.folder / "server.log").read_text(encoding="utf-8")
            time.sleep(0.1)
        raise AssertionError((self.folder / "server.log").read_text(encoding="utf-8"))

    def stop(self) -> None:
        if self.server is not None:
            self.server.terminate()
            self.server.wait(60)
            self.server = None

    def curl(self, arguments: list[str]) -> None:
        if shutil.which("curl"):
            arguments = [self.at_port(argument) for argument in arguments]
            done = subprocess.run(["curl", "--fail", *arguments], capture_output=True, timeout=120, check=False)
            assert done.returncode == 0, (arguments, done.stdout, done.stderr)

    def pip(self, arguments: list[str]) -> None:
        assert arguments[0] == "install"
        named = re.findall(r"\[([\w,]+)\]", " ".join(arguments))
        assert set(",".join(named).split(",")) - {""} <= extras(), arguments

    def python(self, arguments: list[str]) -> None:
        if "-c" in arguments:
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            subprocess.run([sys.executable, *arguments], cwd=self.folder, env=environment, check=True, timeout=120)
        elif "-m" not in arguments:
            assert (self.folder / arguments[0]).is_file() or (ROOT / arguments[0]).is_file(), arguments
        elif (module := arguments[arguments.index("-m") + 1]) not in ("venv", "pytest", "pip", "edge"):
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), arguments


@pytest.fixture
def reader(tmp_path, monkeypatch, demo_folder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    found = Reader(tmp_path, monkeypatch)
    yield found
    found.stop()


def furnish(folder: Path, model: Path, page: str) -> None:
    """Put there what a page names."""
    for name in CHECKPOINTS:
        if name in page:
            shutil.copytree(CHECKPOINT, folder / name)
    for name in MODEL_FOLDERS:
        if name in page:
            shutil.copytree(model, folder / name)
    for name in STORED if re.search(r"^ *edge (run|pull|show|list)\b", page, re.MULTILINE) else ():
        shutil.copytree(model, folder / "models" / name)
    if OPENVINO_FOLDER in page:
        shutil.copytree(model, folder / OPENVINO_FOLDER, ignore=shutil.ignore_patterns(MANIFEST))
    if "ferry.jpg" in page:
        shutil.copyfile(ROOT / "docs" / "pictures" / "page.png", folder / "ferry.jpg")  # its content counts
    if "texts.jsonl" in page:
        (folder / "texts.jsonl").write_text('{"text": "The museum opens at nine."}\n' * 8, encoding="utf-8")
    if "requests.jsonl" in page and "json requests.jsonl" not in page:
        body = {"messages": [{"role": "user", "content": "Who are you?"}]}
        request = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
        (folder / "requests.jsonl").write_text(json.dumps(request), encoding="utf-8")
    if "./whisper" in page and "no-run: needs models" not in page:
        from edge import adopt

        from .speech_models import write_recognition_model, write_speech_model

        adopt(write_recognition_model(folder / "whisper-openvino"), folder / "whisper")
        adopt(write_speech_model(folder / "speecht5"))
        with wave.open(str(folder / "question.wav"), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(np.random.default_rng(0).integers(-9000, 9000, 16_000, dtype=np.int16).tobytes())
    if "./lora" in page:
        from .adapters import write_adapter

        matrix = "model.layers.0.self_attn.o_proj"
        factors = {f"{matrix}.lora_A.weight": np.zeros((4, 256), np.float32)}
        write_adapter(folder / "lora", factors | {f"{matrix}.lora_B.weight": np.zeros((256, 4), np.float32)})
    if "./documents" in page:
        (folder / "documents").mkdir()
        (folder / "documents" / "ferries.md").write_text("# Ferries\n\nFerries leave at nine.\n", encoding="utf-8")
    if "model-Q8_0.gguf" in page:
        from .ggufs import write_gguf

        write_gguf(CHECKPOINT, folder / "model-Q8_0.gguf", "Q8_0")
    for name, scheme in {"GLM-4-9B-0414-AWQ": awq(), "GLM-4-9B-0414-FP8": fp8()}.items():
        if name in page:
            write_quantized(CHECKPOINT, folder / name, scheme)
    if "kiosk.toml" in page and "toml kiosk.toml" not in page:
        (folder / "kiosk.toml").write_text('title = "City Museum"\n', encoding="utf-8")
    if "time_server.py" in page and "python time_server.py\n" not in page:
        (server,) = (one for one in blocks((ROOT / "docs" / "tools.md").read_text(encoding="utf-8"))
                     if one.info == "time_server.py")  # fmt: skip
        (folder / "time_server.py").write_text(server.text, encoding="utf-8")
    if "edge.toml" in page and "toml edge.toml" not in page:
        (folder / "edge.toml").write_text('[models]\nglm4 = "./glm4-int4"\n', encoding="utf-8")
    if "keys.txt" in page:
        (folder / "keys.txt").write_text("anna: a-key-of-more-than-sixteen-characters\n", encoding="utf-8")
    if "key.txt" in page:
        (folder / "key.txt").write_text("a-key-of-more-than-sixteen-characters", encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_page_is_followed_to_the_letter(page, reader, demo_folder):
    text = page.read_text(encoding="utf-8")
    furnish(reader.folder, demo_folder.path, text)
    reader.translated = "zh" in page.relative_to(ROOT).as_posix()
    for block in blocks(text):
        try:
            reader.follow(block)
        except BaseException as exc:
            exc.add_note(f"{page.relative_to(ROOT)}, line {block.line}")
            raise


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_block_that_does_not_run_gives_a_reason(page):
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language in ("python", "sh"):
            assert not block.info or re.fullmatch(r"no-run: .{10,}|[\w-]+\.\w+", block.info), block


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_within_sentences_are_known(page):
    for command in re.findall(r"`(?:[^`\n]*(?:&& |\| ))?(edge [a-z][^`…]*)`", page.read_text(encoding="utf-8")):
        words = shlex.split(" ".join(command.split()))
        if len(words) > 2:
            assert parser().parse_args(words[1:]).run
        elif words[1] != "COMMAND":
            with pytest.raises(SystemExit) as exit_code:
                parser().parse_args([words[1], "--help"])
            assert exit_code.value.code == 0, command


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_to_files_and_headings(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text):
        path, _, heading = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in anchors, target


def test_the_pictures_are_small_and_load_nothing():
    page, terminal = (ROOT / "docs" / "pictures" / name for name in ("page.png", "terminal.svg"))
    assert page.read_bytes().startswith(b"\x89PNG")
    assert max(page.stat().st_size, terminal.stat().st_size) < 60_000
    assert not re.search(r"url\(.?http|href=.?http|<script", terminal.read_text(encoding="utf-8"))


SPLIT = {
    "A:\n\n    edge chat\n    edge demo\n\nB": [("", "", "edge chat\nedge demo\n", 3)],
    "- A\n  b\n    c": [],
    "```python\na = 1\n```\n```toml k.toml\nb = 2\n```": [
        ("python", "", "a = 1\n", 1), ("toml", "k.toml", "b = 2\n", 4),
    ],
    "```python no-run: needs a screen\n    a\n```": [("python", "no-run: needs a screen", "    a\n", 1)],
    "```\nplain\n```": [("text", "", "plain\n", 1)],
}  # fmt: skip


@pytest.mark.parametrize(("markdown", "wanted"), SPLIT.items())
def test_what_a_block_is(markdown, wanted):
    assert [(block.language, block.info, block.text, block.line) for block in blocks(markdown)] == wanted


def test_what_a_command_is():
    lines = 'pip install ".[dev]" && edge demo  # both\necho "Hi." | edge chat ./a \\\n    --seed 1\n'
    assert list(command_lines(lines)) == [
        ["pip", "install", ".[dev]"],
        ["edge", "demo"],
        ["echo", "Hi.", "|", "edge", "chat", "./a", "--seed", "1"],
    ]
