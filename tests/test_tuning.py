"""`edge bench --tune`: settings are tried, the fastest is kept, used by the next load, and told."""

import json
import stat
import sys
import warnings

import pytest

import edge
from edge import tuning
from edge.bench import benchmark
from edge.cli import main
from runtime.backends.backend import Options
from runtime.backends.choose import choose
from runtime.backends.openvino.genai import properties
from runtime.backends.tuned_settings import (
    apply_tuned_settings,
    describe,
    find_tuned_settings,
    keep_tuned_settings,
    tuned_root,
)
from runtime.folder.compile_cache import CACHE_VARIABLE


class FastWith:
    """A choice whose engine needs less time with some settings."""

    device = "CPU"

    def __init__(self, seconds):
        self.backend = self
        self._seconds = seconds
        self.loaded = []

    def load(self, source, device, options):
        assert not options.tuned
        self.loaded.append(options)
        return self

    def close(self):
        pass

    def measure(self):
        return self._seconds(self.loaded[-1])


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def trials(monkeypatch):
    def use(seconds):
        engine = FastWith(seconds)
        monkeypatch.setattr(tuning, "choose", lambda *_: engine)
        monkeypatch.setattr(tuning, "_measure", lambda *_, **__: engine.measure())
        return engine

    return use


def test_the_fastest_is_kept_and_used_and_told(bare_folder, trials, capsys):
    engine = trials(lambda options: 8.0 if options.pinning is False else 9.9 if options.activation_group == 32 else 10)
    result = tuning.tune(bare_folder)
    assert len(engine.loaded) == 2 * len(result.trials)
    assert engine.loaded[0] == engine.loaded[-1] == Options(tuned=False)  # the second round is in reverse
    assert result.kept.settings == {"pinning": False}
    assert result.kept.gain == pytest.approx(0.2)
    assert find_tuned_settings(bare_folder) == result.kept
    if sys.platform != "win32":
        assert stat.S_IMODE(result.path.stat().st_mode) == 0o600
    choice, options = apply_tuned_settings(choose("CPU", bare_folder), bare_folder, Options())
    assert properties(options, "CPU")["ENABLE_CPU_PINNING"] is False
    assert choice.reason.endswith("tuned by `edge bench --tune`: pinning = False")
    assert main(["doctor", str(bare_folder.path)]) == 0
    assert "CPU, tuned by `edge bench --tune`: pinning = False" in capsys.readouterr().out
    assert main(["data", "tuned", "--json"]) == 0


@pytest.mark.parametrize("options", [Options(pinning=True), Options(tuned=False)])
def test_what_is_set_comes_first(bare_folder, trials, options):
    trials(lambda options: 8.0 if options.pinning is False else 10)
    tuning.tune(bare_folder)
    before = choose("CPU", bare_folder)
    assert apply_tuned_settings(before, bare_folder, options) == (before, options)


def test_noise_changes_nothing(bare_folder, trials):
    trials(lambda options: 9.8 if options.pinning else 10)
    assert tuning.tune(bare_folder).kept.settings == {}
    before = choose("CPU", bare_folder)
    assert apply_tuned_settings(before, bare_folder, Options()) == (before, Options())


def test_what_is_faster_in_one_round_alone_is_not_kept(bare_folder, trials):
    rounds = []

    def seconds(options):
        rounds.append(options)
        return 5 if options.pinning and rounds.count(options) == 1 else 10

    trials(seconds)
    assert tuning.tune(bare_folder).kept.settings == {}


@pytest.mark.parametrize(
    "change",
    [
        lambda found: b"",
        lambda found: b"[]",
        lambda found: b"{",
        lambda found: json.dumps(found | {"machine": "another"}).encode(),
        lambda found: json.dumps(found | {"settings": {"threads": -1}}).encode(),
        lambda found: json.dumps(found | {"settings": {"precision": "f16"}}).encode(),
        lambda found: json.dumps(found | {"settings": {"cores": "fast"}}).encode(),
        lambda found: json.dumps(found | {"gain": "much"}).encode(),
        lambda found: json.dumps(found | {"more": 1}).encode(),
        lambda found: bytes(10**6),
    ],
)
def test_a_file_that_is_not_ours_is_ignored_with_a_note(bare_folder, change):
    path = keep_tuned_settings(describe(bare_folder))
    path.write_bytes(change(json.loads(path.read_text())))
    with pytest.warns(edge.Notice, match="are ignored"):
        assert find_tuned_settings(bare_folder) is None


def test_of_another_version_nothing_is_read(bare_folder, monkeypatch):
    import openvino

    keep_tuned_settings(describe(bare_folder))
    monkeypatch.setattr(openvino, "get_version", lambda: "1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_tuned_settings(bare_folder) is None


@pytest.mark.parametrize("words", [["--device", "GPU"], ["--picture", "a.png"]])
def test_tuning_is_for_the_cpu_and_texts(bare_folder, words, capsys):
    assert main(["bench", str(bare_folder.path), "--tune", *words]) == 1
    assert "--tune" in capsys.readouterr().err


@pytest.mark.parametrize("settings", [{"pinning": 1}, {"cores": "fast"}, {"cores": 1}, {"tuned": None}])
def test_options_of_another_type(settings):
    with pytest.raises(edge.RequestError, match=next(iter(settings))):
        Options(**settings)


def test_what_a_machine_tries(monkeypatch):
    import psutil

    def tried(physical, logical, platform="linux"):
        monkeypatch.setattr(psutil, "cpu_count", lambda logical=True, both=(physical, logical): both[logical])
        monkeypatch.setattr(sys, "platform", platform)
        return [json.dumps(settings) for settings in tuning.candidates()]

    groups = ['{"activation_group": 32}', '{"activation_group": 0}']
    pins = ['{"pinning": true}', '{"pinning": false}']
    assert tried(2, 2) == ["{}", *pins, *groups]
    assert tried(8, 16) == ["{}", '{"threads": 16}', '{"threads": 7}', *pins, *groups]
    assert '{"cores": "performance"}' in tried(14, 20)
    assert tried(8, 8, "darwin") == ["{}", '{"threads": 7}', *groups]


@pytest.mark.slow
def test_on_the_engine_itself(demo_folder, monkeypatch, capsys):
    monkeypatch.setattr(tuning, "_ROUNDS", 1)
    monkeypatch.setattr(tuning, "MARGIN", -1.0)
    monkeypatch.setattr(tuning, "candidates", lambda: iter([{}, {"pinning": False}, {"cores": "performance"}]))
    assert main(["bench", str(demo_folder.path), "--tune", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [trial["settings"] for trial in found["trials"]] == [{}, {"pinning": False}, {"cores": "performance"}]
    assert min(trial["seconds"] for trial in found["trials"]) > 0
    keep_tuned_settings(describe(demo_folder).__class__(**found["kept"] | {"settings": {"threads": 1}}))
    assert "threads = 1" in benchmark(demo_folder, device="CPU", prompt_tokens=8, new_tokens=2, runs=1).reason
    with edge.Model(demo_folder, device="CPU") as model:
        assert "threads = 1" in model.choice.reason
    assert list(tuned_root().iterdir())
