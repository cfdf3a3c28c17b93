import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge.cli import main, parser
from edge.cli.chat import print_reply as say
from edge.demo import CHECKPOINT
from runtime.events import Finish, Reasoning, Text, Usage
from runtime.folder import compile_cache as compiled
from runtime.folder.model_folder import write_manifest

ROOT = Path(__file__).resolve().parents[1]


def run(capsys, *arguments):
    status = main(arguments)
    out, err = capsys.readouterr()
    return status, out, err


def test_inspect_checks_and_tells(capsys, demo_folder):
    status, out, _ = run(capsys, "inspect", str(demo_folder.path), "--json")
    facts = json.loads(out)
    assert status == 0
    assert (facts["family"], facts["recipe"], facts["checked"]) == ("glm4_0414", "int4", True)
    assert facts["size"] == demo_folder.size
    status, out, _ = run(capsys, "inspect", str(demo_folder.path))
    assert status == 0
    assert "hash checked" in out


def test_bench_measures(capsys, demo_folder):
    arguments = ("--prompt-tokens", "64", "--new-tokens", "8", "--runs", "2", "--json")
    status, out, _ = run(capsys, "bench", str(demo_folder.path), *arguments)
    result = json.loads(out)
    assert status == 0
    assert (result["device"], result["new_tokens"], result["runs"]) == ("CPU", 8, 2)
    assert 48 <= result["prompt_tokens"] <= 64
    assert min(result["load"], result["ttft"]["low"], result["decode"]["low"], result["peak_memory"]) > 0


def test_bench_refuses_what_does_not_fit(capsys, demo_folder):
    status, _, err = run(capsys, "bench", str(demo_folder.path), "--prompt-tokens", "1000000")
    assert status == 1
    assert re.fullmatch(r"error: 1,000,000 prompt tokens .*\nhint: .*\n", err)


def test_devices_and_doctor_tell_a_person_and_a_program(capsys, demo_folder):
    status, out, _ = run(capsys, "devices")
    assert status == 0
    assert re.search(r"^CPU +\S", out, re.MULTILINE)
    status, out, _ = run(capsys, "devices", "--json")
    assert json.loads(out)["cpu"]["cores"] >= 1
    status, out, _ = run(capsys, "doctor", str(demo_folder.path), "--context", "1024")
    assert status == 0
    assert re.search(r"^CPU +1,024 .* yes *$", out, re.MULTILINE)
    assert re.search(r"^auto: \w+: .* free", out, re.MULTILINE)
    assert re.search(r"\(needs [\d.]+ [MG]B; [\d.]+ [MG]B free\)", out)
    status, out, _ = run(capsys, "doctor", str(demo_folder.path), "--json")
    facts = json.loads(out)
    assert facts["auto"]["device"] in [fit["device"] for fit in facts["fits"]]
    assert all(fit["running"] <= fit["peak"] for fit in facts["fits"])


def test_inspect_for_npu(capsys, npu_folder, tmp_path):
    status, out, _ = run(capsys, "inspect", str(npu_folder.path), "--for", "npu")
    assert status == 0
    assert "Suitable for an NPU" in out
    folder = tmp_path / "unfit"
    shutil.copytree(npu_folder.path, folder)
    ir = folder / "openvino_model.xml"
    ir.write_text(ir.read_text().replace('element_type="i4"', 'element_type="i8"'))
    write_manifest(folder, npu_folder.manifest)
    status, out, err = run(capsys, "inspect", str(folder), "--for", "NPU", "--json")
    assert status == 1
    assert re.fullmatch(r"error: .*0 of the decoder's \d+ matrices are int4.*\nhint: .*int4-npu\n", err)
    assert len(json.loads(out)["unfit"]["NPU"]) == 1


def test_an_int4_folder_is_told_one_thing_about_an_npu(capsys, demo_folder):
    status, out, _ = run(capsys, "inspect", str(demo_folder.path), "--for", "NPU", "--json")
    facts = json.loads(out)
    assert (status, facts["unfit"]["NPU"]) == (0, [])
    assert facts["devices"]["NPU"] == "suitable; auto chooses an NPU only for the recipe int4-npu"


def test_a_model_folder_is_not_converted_again(capsys, demo_folder, tmp_path):
    status, _, err = run(capsys, "convert", str(demo_folder.path), str(tmp_path / "model"))
    assert status == 1
    assert re.fullmatch(r"error: .* is a model folder: it is converted already\nhint: .*`edge chat`.*\n", err)
    shutil.copytree(demo_folder.path, tmp_path / "theirs")  # as optimum-intel leaves one, without our manifest
    (tmp_path / "theirs/edge.json").unlink()
    assert "edge adopt" in run(capsys, "convert", str(tmp_path / "theirs"), str(tmp_path / "model"))[2]
    assert not (tmp_path / "model").exists()


def test_cache_lists_and_clears(capsys, monkeypatch, tmp_path, bare_folder):
    monkeypatch.setenv(compiled.CACHE_VARIABLE, str(tmp_path / "cache"))
    with compiled.caching(bare_folder, "GPU", "driver 1") as place:
        (Path(place["CACHE_DIR"]) / "1.blob").write_bytes(b"x" * 1_000_000)
    status, out, _ = run(capsys, "cache")
    assert status == 0
    assert "tiny, int4 on GPU: 1.0 MB" in out
    assert len(json.loads(run(capsys, "cache", "--json")[1])["compiled"]) == 1
    assert ": 1.0 MB in 1 removed" in run(capsys, "cache", "--clear")[1]
    assert ": 0.0 MB in 0 kept" in run(capsys, "cache")[1]


@pytest.mark.slow
def test_piped_input_gets_just_the_answer(demo_folder):
    command = [sys.executable, "-m", "edge", "chat", str(demo_folder.path)]
    done = subprocess.run(command, input="Who are you?\n", capture_output=True, text=True, check=True, cwd=ROOT)
    assert "glm4-edge" in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("piped", [False, True])
def test_complete_goes_on_from_a_text(demo_folder, piped):
    text = "[{1, 2, 3"
    command = [sys.executable, "-m", "edge", "complete", str(demo_folder.path), "--max-new-tokens", "5"]
    done = subprocess.run(
        command if piped else [*command, "--prompt", text],
        input=text + "\n" if piped else "",
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.strip()
    assert text not in done.stdout
    assert done.stderr == ""


class Thinker:
    """A chat that thinks before it speaks, and is cut off."""

    def stream(self, text, pictures=(), documents=()):
        yield Reasoning("Hm, ")
        yield Reasoning(text)
        yield Text("So")
        yield Finish("length", Usage(completion_tokens=1200))


@pytest.mark.parametrize(
    ("watched", "wanted"),
    [(True, "\x1b[2mHm, why?\x1b[0m\nSo [cut off after 1,200 tokens]\n"), (False, "So\n")],
)
def test_who_watches_sees_the_thinking(capsys, monkeypatch, watched, wanted):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: watched, raising=False)
    say(Thinker(), "why?")
    assert capsys.readouterr().out == wanted


def test_a_checkpoint_chats_on_torch(capsys, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(sys, "stdin", io.StringIO("Who are you?\n"))
    status, out, err = run(capsys, "chat", str(CHECKPOINT), "--device", "torch", "--max-new-tokens", "8")
    assert (status, err) == (0, "")
    assert out.strip()


ERRORS = {
    "nothing to complete with": ["complete", "nowhere", "--prompt", "text"],
    "a checkpoint on OpenVINO": ["chat", str(CHECKPOINT), "--device", "CPU"],
    "no folder": ["chat", "nowhere"],
    "no model folder": ["inspect", str(ROOT / "tests")],
    "no checkpoint": ["convert", str(ROOT / "tests"), "out"],
    "no such recipe": ["convert", "nowhere", "out", "--recipe", "int5"],
    "no such setting": ["chat", "nowhere", "--temperature", "-1"],
}


@pytest.mark.parametrize("arguments", ERRORS.values(), ids=ERRORS.keys())
def test_an_error_is_one_line_and_a_hint(capsys, monkeypatch, tmp_path, arguments):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (1, "")
    assert re.fullmatch(r"error: .+\nhint: .+\n", err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["bench", "chat", "convert", "doctor", "eval", "inspect"])
def test_a_missing_folder_is_shown_as_it_was_typed(capsys, monkeypatch, command):
    monkeypatch.setattr(sys, "stdin", io.StringIO("Who are you?\n"))
    status, _, err = run(capsys, command, "./nowhere", *(["out"] if command == "convert" else []))
    assert status == 1
    assert err.startswith("error: there is no folder './nowhere'\nhint: ")


def test_every_command_of_the_readme_is_understood():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^ {4}(?:.*&& |.*\| )?(edge [^#\n]+)", text, re.MULTILINE)
    commands += re.findall(r"`[^`\n]*?(edge (?:chat|convert|inspect|bench|demo|devices|doctor|cache)[^`|&\n]*)`", text)
    assert len(commands) >= 6
    for command in commands:
        parser().parse_args(shlex.split(command)[1:])


def test_the_readme_names_every_verb():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for verb in re.search(r"COMMAND\n((?: {4}\w.*\n)+)", parser().format_help().replace("  COMMAND", "COMMAND"))[
        1
    ].split("\n"):
        if verb.strip():
            assert f"edge {verb.split()[0]}" in text


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is full is Linux's")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("verb", ["recipes", "inspect --json", "chat", "--version", "--help", "serve --help"])
def test_an_output_that_cannot_be_written_is_said_in_a_line(demo_folder, verb, unbuffered):
    name, *options = verb.split()
    folder = [str(demo_folder.path)] if name in ("inspect", "chat") else []
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edge", name, *folder, *options],
            input="hi",
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            check=False,
        )
    assert done.returncode == 1
    assert re.fullmatch(r"error: the output cannot be written: no space left on device\nhint: .*\n", done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["chat", "convert", "recipes", "inspect", "--help"])
def test_without_docstrings_a_verb_works_or_says_that_it_needs_them(demo_folder, tmp_path, verb):
    arguments = {"convert": [str(CHECKPOINT), str(tmp_path / "out")], "recipes": [], "--help": []}
    done = subprocess.run(
        [sys.executable, "-m", "edge", verb, *arguments.get(verb, [str(demo_folder.path)])],
        input="hi",
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONOPTIMIZE": "2"},
        check=False,
    )
    if verb == "convert":
        assert re.fullmatch(r"error: .*without docstrings.*\nhint: unset PYTHONOPTIMIZE.*\n", done.stderr)
        assert done.returncode == 1
    else:
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.strip()
