"""`edge.toml`: what is set in it, what is wrong in it, and the flags over it."""

import re
from dataclasses import fields

import pytest

from edge.cli import chat, main, parser, serve
from edge.cli.config_flags import flag_words, load_config, read_flags
from edge.config import MAX_BYTES, Config
from edge.config_sections import SECTIONS, OptionsSection, SamplingSection, section_keys
from edge.server.limits import Limits
from runtime.backends.backend import Options
from runtime.errors import RequestError
from runtime.sampling import Sampling

WRONG = {
    "port = 8000": "port is not a section",
    "[sever]": "there is no section [sever]",
    "[server]\nprot = 1": "[server] there is no key prot",
    "[server]\nport = '8000'": "[server] port must be an integer",
    "[server]\nport = 70000": "[server] port is 70,000",
    "[server]\nport = true": "[server] port must be an integer",
    "[server]\nallow_host = 'a.lan'": "[server] allow_host must be a list of strings",
    "[server]\nallow_host = [1]": "[server] allow_host must be a list of strings",
    "[server]\nlog_format = 'xml'": '[server] log_format must be "text" or "json"',
    "[server]\nhost = 2026-01-01\nport = 'x'": "[server] port must be an integer",
    "[models]\nglm4 = 1": "[models] a model's folder must be a path",
    "[models]\nglm4 = ['a']": "[models] a model's folder must be a path",
    "[models]\nadapter = 'lora'": "[models] adapter must be a table of paths",
    "[options]\nthreads = 0": "[options] threads is 0",
    "[options]\nactivation_scale = 0": "[options] activation_scale is 0",
    "[options]\nverify = 'no'": "[options] verify must be a boolean",
    "[limits]\ntimeout = -1": "[limits] timeout is -1",
    "[limits]\ntimeout = nan": "[limits] timeout ",
    "[sampling]\ntemperature = 9": "[sampling] temperature is 9",
    "[sampling]\nstop = ['']": "[sampling] stop is ('',)",
    "server 8000": "is not TOML",
    "a = " + "[" * 9_999: "is nested too deeply",
    "#" * (MAX_BYTES + 1): "cannot be read",
}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "edge.toml"


@pytest.mark.parametrize(("text", "words"), WRONG.items(), ids=range(len(WRONG)))
def test_what_is_wrong_in_it_is_named(capsys, file, text, words):
    file.write_text(text, encoding="utf-8")
    for verb in ("serve", "chat", "service install"):
        assert main([*verb.split(), "--config", str(file)]) == 1
        assert re.fullmatch(rf"error: .*edge\.toml.*{re.escape(words)}.*\nhint: .+\n", capsys.readouterr().err)


def test_a_file_that_is_not_there(capsys, tmp_path):
    assert main(["serve", "--config", str(tmp_path / "edge.toml")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_a_key_is_suggested(file):
    file.write_text("[server]\nprot = 1")
    with pytest.raises(RequestError) as found:
        Config.load(str(file))
    assert found.value.hint == "did you mean port?"


def test_without_a_file_every_setting_is_the_codes_own():
    config = Config.load(None)
    assert config == Config()
    assert config.options.options() == Options()
    assert config.limits.limits() == Limits()
    assert config.sampling.sampling() == Sampling()


def test_every_option_and_sampling_setting_is_a_key():
    keys = {field.name for field in fields(OptionsSection)}
    assert keys == {field.name for field in fields(Options)} | {"device", "fallback"}
    keys = {field.name for field in fields(SamplingSection)}
    of_requests = {"logprobs", "top_logprobs", "prompt_logprobs", "logit_bias"}
    assert keys == {field.name for field in fields(Sampling)} - of_requests


def test_every_limit_is_a_key():
    """Each key changes one limit, and all limits are changed."""
    limits, changed = Limits(), set()
    for key in section_keys("limits"):
        other = Config.load(None, {"limits": {key.name: key.default + 1}}).limits.limits()
        (name,) = [field.name for field in fields(Limits) if getattr(other, field.name) != getattr(limits, field.name)]
        assert getattr(other, name) == key.default + 1
        changed.add(name)
    assert changed == {field.name for field in fields(Limits)}


@pytest.mark.parametrize("verb", [chat, serve])
def test_a_keys_name_is_one_flags_alone(verb):
    flags = [key.flag for section in verb.SECTIONS for key in section_keys(section)]
    assert len({*flags}) == len(flags)


def test_every_section_has_flags():
    assert {*SECTIONS} == {*chat.SECTIONS, *serve.SECTIONS}


FILE = """
[models]
first = "./one"
second = "../two"
[models.adapter]
legal = "lora@0.5"
both = ["/a", "b"]
[server]
port = 1
allow_host = ["a.lan"]
[options]
threads = 3
adapters = ["lora"]
[sampling]
temperature = 1
"""


def test_a_path_is_relative_to_the_file(file, tmp_path):
    file.write_text(FILE)
    config = Config.load(str(file))
    assert config.models.folders == {"first": str(tmp_path / "one"), "second": str(tmp_path.parent / "two")}
    assert config.models.adapter == {"legal": str(tmp_path / "lora@0.5"), "both": ("/a", str(tmp_path / "b"))}
    assert [str(one.path) for one in config.options.options().adapters] == [str(tmp_path / "lora")]


def test_a_flag_wins_over_the_file(file):
    file.write_text(FILE)
    typed = "--threads 2 --allow-host b --allow-host c --no-verify --timeout 900 --kv-precision u8 --adapter x=./y"
    config = load_config(parser().parse_args(["serve", "--config", str(file), *typed.split()]))
    assert (config.options.threads, config.options.verify, config.options.kv_precision) == (2, False, "u8")
    assert (config.server.port, config.server.allow_host) == (1, ("b", "c"))
    assert config.limits.limits().request_seconds == 900
    assert config.models.adapter == {"x": ("./y",)}
    assert config.sampling.temperature == 1


def test_flags_can_be_written_again(monkeypatch, tmp_path):
    """As a service does, whose working directory is another one."""
    monkeypatch.chdir(tmp_path)
    typed = "--port 1 --allow-host a --allow-host b --no-cache --verify --adapter x=y --adapter x=z --kiosk --stop no"
    parse = parser().parse_args
    words = flag_words(parse(["serve", *typed.split()]))
    assert read_flags(parse(["serve", *words])) == {
        "server": {"port": 1, "allow_host": ["a", "b"], "kiosk": ""},
        "options": {"cache": False, "verify": True},
        "models": {"adapter": {"x": [str(tmp_path / "y"), str(tmp_path / "z")]}},
        "sampling": {"stop": ["no"]},
    }
