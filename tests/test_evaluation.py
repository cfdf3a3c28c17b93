import json
import re
import shutil
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from convert import samples
from edge.cli import main
from edge.demo import CHECKPOINT
from edge.demo.training import test_set
from edge.demo.training.dialogues import held_out
from edge.demo.training.prompt import render
from edge.evaluation import corpus, plot, report, test_sets
from edge.evaluation import tool_calls as calls
from edge.evaluation.evaluate import evaluate
from edge.evaluation.target import EvaluationTarget
from runtime.errors import BackendError, RequestError
from runtime.folder.model_folder import write_manifest
from runtime.messages import Message

from .test_pipeline import write_checkpoint


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    return status, *capsys.readouterr()


def lines(path, *objects):
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in objects), encoding="utf-8")
    return path


DIALOGUE = {
    "messages": [{"role": "user", "content": "How warm is it in Rome?"}, {"role": "assistant", "content": "21 °C."}],
    "tools": [
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    ],
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What `edge eval` writes of the embedded checkpoint, converted to int4; and what it prints."""
    return tmp_path_factory.mktemp("eval")


@pytest.fixture(scope="module")
def found(demo_folder, written):
    own = [("".join(piece for piece in ask(said)), said) for said in held_out(count=3)]
    file = lines(written / "own.jsonl", DIALOGUE, *({"text": text} for text, _ in own))
    tasks = lines(written / "calls.jsonl", *(task(said) for said in held_out(count=4) if said.tools))
    out = written / "report"
    arguments = ["eval", demo_folder.path, "--against", CHECKPOINT, "--texts", file, "--calls", tasks, "--context", 400]
    assert main([str(a) for a in (*arguments, "--new-tokens", 8, "--out", out, "--max-kl", 50)]) == 0
    return json.loads((out / "report.json").read_text(encoding="utf-8"))


def ask(said):
    return [message["content"] for message in said.messages]


def task(said):
    question = [message for message in said.messages if message["role"] == "user"][-1]
    return {"messages": [question], "tools": list(said.tools), "expected": []}


def test_the_report_says_everything(found, demo_folder):
    figures = found["figures"]
    assert (found["recipe"], found["checkpoint"]) == ("int4", CHECKPOINT.name)
    assert found["weights"] < found["checkpoint_weights"]
    assert 4 < found["bits_per_weight"] < 6
    assert sum(found["texts"].values()) == figures["tokens"]
    assert 0 < figures["mean_kl"] <= figures["p99_kl"] <= figures["max_kl"]
    assert 0 < figures["top1"] <= 1
    assert sum(some["tokens"] for some in found["by_context"].values()) == figures["tokens"]
    assert sum(some["tokens"] for some in found["by_text"].values()) == figures["tokens"]
    settings = [part["setting"] for part in found["engine"]]
    assert settings[:3] == ["KV f16", "KV u8", "KV u4"]
    assert settings[-1] == "as it runs"
    assert found["engine"][-1]["against_checkpoint"]["mean_kl"] > 0
    assert len(found["drift"]) == len(corpus.questions())
    for drift in found["drift"]:
        assert drift["tokens"] <= 8
        assert (drift["parts_at"] is None) == (drift["agreement"] == 1)
    assert set(found["calls"]) >= {"exact"}
    assert found["seconds"] > 0


def test_the_report_is_a_folder_of_text_and_pictures(found, written):
    folder = written / "report"
    assert {path.name for path in folder.iterdir()} == {"report.json", "report.md", "kl.svg", "size.svg", "engine.svg"}
    assert [path.name for path in written.iterdir() if path.name.startswith(".")] == []
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    for name in re.findall(r"!\[.*?\]\((.*?)\)", markdown):
        ElementTree.parse(folder / name)
    for block in re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE):
        assert len({row.count("|") for row in block.splitlines()}) == 1
    assert "nan" not in markdown


@pytest.mark.slow
def test_the_gate(capsys, demo_folder, small):
    files = ("--texts", small["texts"], "--calls", small["calls"], "--context", 30)
    arguments = ("eval", demo_folder.path, "--against", CHECKPOINT, *files, "--new-tokens", 0, "--json")
    status, out, err = run(capsys, *arguments, "--max-kl", "1e-9")
    assert status == 1
    kl = json.loads(out)["figures"]["mean_kl"]
    assert re.fullmatch(rf"error: .* is {kl:.4g} nats a token; --max-kl allows 1e-09\nhint: .*\n", err)


def test_without_a_checkpoint_the_rest_is_found(bare_report):
    assert bare_report.checkpoint == ""
    assert bare_report.figures.mean_kl is None
    assert bare_report.figures.perplexity > 1
    assert bare_report.engine[1].figures.mean_kl > 0
    assert bare_report.engine[-1].against_checkpoint is None
    assert bare_report.drift == ()
    assert "kl.svg" not in report.plots(bare_report)
    assert "None" not in report.markdown(bare_report)


@pytest.fixture(scope="module")
def small(written):
    """A text and a task, as files."""
    file = lines(written / "small.jsonl", {"text": "A ticket costs five euros. " * 30})
    tasks = lines(written / "task.jsonl", {"messages": [{"role": "user", "content": "Hi"}], "expected": []})
    return {"texts": file, "calls": tasks}


@pytest.fixture(scope="module")
def bare_report(demo_folder, small):
    return finish(evaluate(demo_folder.path, **small))


def finish(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """A checkpoint of another model, and one of the same weights with another tokenizer."""
    parent = tmp_path_factory.mktemp("strangers")
    other = parent / "other"
    shutil.copytree(CHECKPOINT, other)
    file = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    file["model"]["merges"] = file["model"]["merges"][:-200]
    (other / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")
    return {"another model": write_checkpoint(parent / "tiny"), "another tokenizer": other}


REFUSED = {
    "another model": (["--against", "another model"], "was not converted from the checkpoint"),
    "another tokenizer": (["--against", "another tokenizer"], "tokenizer"),
    "too long a context": (["--context", "100000"], "100,000 tokens is too long or too short: the model has"),
    "no context": (["--context", "1"], "--context may be"),
    "no such texts": (["--texts", "nowhere.jsonl"], "cannot be read"),
    "no such calls": (["--calls", "nowhere.jsonl"], "cannot be read"),
    "a gate on nothing": (["--max-kl", "1"], "needs a checkpoint"),
    "a report that is there": (["--out", "."], "exists already"),
    "a report nowhere": (["--out", "no/where"], "no folder"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.usefixtures("elsewhere")
def test_what_makes_no_sense_is_refused_at_once(capsys, demo_folder, strangers, arguments, message):
    status, out, err = run(capsys, "eval", demo_folder.path, *(strangers.get(a, a) for a in arguments))
    assert (status, out) == (1, "")
    assert re.fullmatch(r"error: .+\nhint: .+\n", err)
    assert message in err


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """Nothing may be left there."""
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


BAD_LINES = {
    "no JSON": "{",
    "a list": "[1]",
    "neither": '{"title": "x"}',
    "no role": '{"messages": [{"content": "x"}]}',
    "a nameless tool": '{"messages": [{"role": "user", "content": "x"}], "tools": [{}], "expected": []}',
    "nothing": "",
}


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES.keys())
@pytest.mark.parametrize("read", [samples.read_samples, calls.read_tasks], ids=["texts", "calls"])
def test_bad_files_are_refused(tmp_path, read, line):
    path = tmp_path / "file.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(RequestError) as caught:
        read(path)
    assert caught.value.hint


def test_expected_calls_may_be_spelled_in_many_ways(tmp_path):
    call = {"name": "weather", "arguments": {"city": "Rome"}}
    spelled = {"function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    asked = {"messages": [{"role": "user", "content": "?"}]}
    path = lines(
        tmp_path / "calls.jsonl", *({**asked, "expected": e} for e in (call, [call], spelled, [spelled], None))
    )
    expected = [task.expected for task in calls.read_tasks(path)]
    assert expected == [[("weather", {"city": "Rome"})]] * 4 + [[]]


def test_the_demos_test_set_is_what_its_dialogues_give():
    """Run `python -m edge.demo.training.test_set` where this fails."""
    for path, contents in test_set.files():
        assert path.read_text(encoding="utf-8") == contents


def test_a_checkpoints_own_test_set_is_the_default(demo_folder):
    target = EvaluationTarget.open(demo_folder.path)
    names = [f"dialogues: {number}" for number in range(test_set.TEXTS)]
    assert list(target.token_ids(None)) == [*names, "all in a row"]
    assert "".join(target.template.render([Message("user", "Hi")])) == "[gMASK]<sop><|user|>\nHi<|assistant|>"
    path = test_sets.find(demo_folder.manifest.source.fingerprint, "calls.jsonl")
    tasks = calls.read_tasks(path)
    assert len(tasks) == test_set.TASKS
    assert {task.kind for task in tasks} == set(test_set.ROWS.values())
    for task, dialogue in zip(tasks, ordered(held_out(count=test_set.TASKS)), strict=True):
        assert "".join(target.template.render(task.messages, task.tools)) == render(dialogue)


def ordered(dialogues):
    kinds = list(test_set.ROWS)
    return sorted(dialogues, key=lambda dialogue: kinds.index(dialogue.kind))


def test_rendered_prompts_and_kinds_are_the_users_too(demo_folder, tmp_path):
    target = EvaluationTarget.open(demo_folder.path)
    prompt = "[gMASK]<sop><|user|>\nHi<|assistant|>"
    (sample,) = samples.read_samples(lines(tmp_path / "texts.jsonl", {"rendered": prompt}))
    special = target.folder.manifest.special_tokens
    (ids,) = target.token_ids([sample]).values()
    assert [special[name] for name in ("[gMASK]", "<sop>", "<|user|>", "<|assistant|>")] == [*ids[:3], ids[-1]]
    asked = {"messages": [{"role": "user", "content": "?"}], "expected": None}
    first, second = calls.read_tasks(
        lines(tmp_path / "calls.jsonl", asked, {**asked, "text": "Yes.", "kind": "small talk"})
    )
    assert (first.text, first.kind, second.text, second.kind) == (None, "exact", "Yes.", "small talk")


COUNTS = {
    "no call": ({"expected": []}, False),
    "a call": ({"expected": [("a", {})]}, True),
    "two calls": ({"expected": [("a", {}), ("b", {})]}, True),
    "a call in a row of its own": ({"expected": [("a", {})], "kind": "row"}, True),
    "two calls in a row of their own": ({"expected": [("a", {}), ("b", {})], "kind": "row"}, False),
}


@pytest.mark.parametrize(("task", "counts"), COUNTS.values(), ids=COUNTS.keys())
def test_where_the_right_tool_counts(task, counts):
    assert calls.ToolCallTask((), (), **task).counts_tool is counts


def test_too_little_memory_is_told_first(monkeypatch, demo_folder):
    subject = EvaluationTarget.open(demo_folder.path)
    ids = list(subject.token_ids(None).values())
    assert max(map(len, ids)) == subject.context == 2048
    needed = subject.layerwise_memory(ids)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": needed + 1}))
    monkeypatch.setattr("edge.evaluation.target.estimate", lambda *_: type("Need", (), {"running": 2 * needed}))
    assert "is free" in subject.require_memory(ids)  # a layer at a time it goes
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": needed - 1}))
    with pytest.raises(BackendError, match="needs about"):
        subject.require_memory(ids)


@pytest.mark.slow
def test_a_large_model_is_read_a_layer_at_a_time(monkeypatch, demo_folder, small, bare_report):
    """To the same figures; what needs the whole model is left out, and that is said."""
    monkeypatch.setattr(EvaluationTarget, "require_memory", lambda *_: "there is no room")
    layers = finish(evaluate(demo_folder.path, CHECKPOINT, **small))
    assert layers.figures.perplexity == pytest.approx(bare_report.figures.perplexity, rel=1e-3)
    assert (layers.engine, layers.drift) == ((), ())
    assert any("there is no room" in note for note in layers.notes)


def test_a_base_model_reads_texts_alone(demo_folder, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(demo_folder.path, folder)
    (folder / "chat_template.jinja").unlink()
    manifest = replace(demo_folder.manifest, family="base", source=replace(demo_folder.manifest.source, fingerprint=""))
    subject = EvaluationTarget.open(write_manifest(folder, manifest).path, 300)
    assert set(subject.token_ids(None)) == {"English", "Chinese", "code"}
    assert set(subject.reply_prompts()) == {"English", "Chinese", "code"}
    with pytest.raises(RequestError, match="a base model has no format"):
        subject.token_ids(samples.read_samples(lines(tmp_path / "texts.jsonl", DIALOGUE)))


def test_texts_of_others_fill_a_context(demo_folder, tmp_path):
    """Of a model that is not the embedded one."""
    folder = tmp_path / "other"
    shutil.copytree(demo_folder.path, folder)
    other = replace(demo_folder.manifest, source=replace(demo_folder.manifest.source, fingerprint="another"))
    subject = EvaluationTarget.open(write_manifest(folder, other).path)
    found = subject.token_ids(None)
    assert {name.split(":")[0] for name in found} >= {"English", "Chinese", "code", "tool calls"}
    assert max(map(len, found.values())) == subject.context


SERIES = {
    "far apart": {"a": [1e-6, 1e-3, 2.0], "b": [0.0, None, 1e-2]},
    "close": {"a": [0.5, 0.7, 0.6]},
    "nothing": {"a": [None, None, None]},
    "zeros": {"a <b> & c": [0.0, 0.0, 0.0]},
    "one power": {"a": [1e-5, 1e-5, 1.0]},
}


@pytest.mark.parametrize("series", SERIES.values(), ids=SERIES.keys())
def test_lines_are_an_svg_within_its_frame(series):
    root = ElementTree.fromstring(plot.line_chart("Title <1>", ["1", "2", "3"], series, x="x", y="y & z"))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    circles = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in root.iter("{http://www.w3.org/2000/svg}circle")]
    logarithmic = "far apart" in SERIES and series is SERIES["far apart"]
    shown = [v for values in series.values() for v in values if v is not None and (v > 0 or not logarithmic)]
    assert len(circles) == len(shown)
    assert all(0 < x < width and 0 < y < height for x, y in circles)
    for value, (_, y) in zip(shown, circles, strict=True):
        for other, (_, lower) in zip(shown, circles, strict=True):
            assert value <= other or y <= lower


def test_bars_grow_with_their_values():
    root = ElementTree.fromstring(plot.bar_chart("Weights", {"a": 1.0, "b": 3.0, "none": 0.0}, y="MB"))
    heights = [float(r.attrib["height"]) for r in root.iter("{http://www.w3.org/2000/svg}rect") if "x" in r.attrib]
    assert heights[1] == pytest.approx(3 * heights[0], rel=0.01)
    assert heights[2] == 0


def test_a_bar_has_the_range_of_its_value():
    chart = ElementTree.fromstring(
        plot.bar_chart("a < b", {"x & y": 1.0, "z": 2.0}, y="s", ranges={"x & y": (0.5, 4.0), "z": (2.0, 2.0)})
    )
    svg = "{http://www.w3.org/2000/svg}"
    first, second = (r for r in chart.iter(f"{svg}rect") if "x" in r.attrib)
    assert float(second.attrib["height"]) == pytest.approx(2 * float(first.attrib["height"]), rel=0.01)
    line = next(chart.iter(f"{svg}path")).attrib["d"]
    low, high = map(float, re.fullmatch(r"M[\d.]+ ([\d.]+)V([\d.]+)", line).groups())
    assert high < float(first.attrib["y"]) < low
    assert {"x", "&", "y", "z"} <= {text.text for text in chart.iter(f"{svg}text")}


def test_a_failed_report_leaves_nothing(monkeypatch, bare_report, tmp_path):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(RequestError, match="No space left"):
        report.write_report(bare_report, tmp_path / "report")
    assert [path.name for path in tmp_path.iterdir() if "report" in path.name] == []
