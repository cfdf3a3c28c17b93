"""`edge.toml`: what is set in it, what is wrong in it, and the flags over it."""

import re
from dataclasses import fields

import pytest

pytest.importorskip("starlette")

from edge.cli import chat, main, parser, serve
from edge.cli.config_flags import flag_words, load_config, read_flags
from edge.config.sections import SECTIONS, OptionsSection, SamplingSection, section_keys
from edge.config.settings_file import MAX_BYTES, Config
from edge.server.guard.api_keys import ApiKey
from edge.server.limits import Limits
from edge.server.page.kiosk import Kiosk
from edge.server.settings import ServerSettings
from runtime.backends.backend import Options
from runtime.errors import RequestError
from runtime.sampling import Sampling

from .serving import serving_ours
from .test_server import ASK

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
    "[server]\nssl_cert = 'x\\u0000'".replace("'", '"'): "[server] ssl_cert has a NUL character",
    "[options]\nadapters = ['x\\u0000']".replace("'", '"'): "[options] adapters has a NUL character",
    "[models]\na = 'x\\u0000'".replace("'", '"'): "[models] a has a NUL character",
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
    known = {field.name for field in fields(Options)} - {"running"}  # which a chat sets
    assert keys == known | {"device", "fallback"}
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


def test_a_section_sets_a_kiosk_up(file, monkeypatch):
    monkeypatch.delenv("EDGE_API_KEY", raising=False)
    file.write_text('[kiosk]\ntitle = "Museum"\nidle = 30')
    config = Config.load(str(file))
    assert serve.server_settings(config, config.server.kiosk).kiosk == Kiosk(title="Museum", idle=30)
    assert serve.server_settings(config, "").kiosk == Kiosk()  # the flag wins
    assert serve.server_settings(Config(), None).kiosk is None
    file.write_text("[kiosk]\nidle = 1")
    with pytest.raises(RequestError, match=r"edge\.toml: \[kiosk\] idle: "):
        serve.server_settings(Config.load(str(file)), None)


def test_every_setting_reaches_the_server(file, monkeypatch, tmp_path):
    """A value that is not the default for each field of ServerSettings, and nothing is lost on the way."""
    monkeypatch.delenv("EDGE_API_KEY", raising=False)
    (tmp_path / "keys").write_text("one\nlaptop: two")
    (tmp_path / "kiosk.toml").write_text("idle = 20")
    file.write_text(
        f"""
        [server]
        host = "0.0.0.0"
        port = 1
        api_key_file = "keys"
        allow_host = ["*.lan"]
        allow_origin = ["https://a.example"]
        tools = ["tests.test_config:clock"]
        kiosk = "kiosk.toml"
        root_path = "glm/"
        ssl_cert = "cert.pem"
        ssl_key = "{tmp_path}/key.pem"
        keep_alive = 9
        log_format = "json"
        [responses]
        store = "store.db"
        store_count = 5
        store_bytes = 6
        """
    )
    config = Config.load(str(file))
    found = serve.server_settings(config, config.server.kiosk)
    assert [tool.name for tool in found.tools] == ["clock"]
    assert (found.keys, found.kiosk) == ((ApiKey("one", "1"), ApiKey("two", "laptop")), Kiosk(idle=20))
    assert found.root_path == "/glm"
    assert (found.ssl_cert, found.ssl_key) == (str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    default = ServerSettings()
    assert [one.name for one in fields(default) if getattr(found, one.name) == getattr(default, one.name)] == [
        "uds",
        "models_file",
    ]
    file.write_text('[server]\nuds = "edge.sock"')
    assert serve.server_settings(Config.load(str(file)), None).uds == str(tmp_path / "edge.sock")


def clock() -> str:
    """The time."""
    return "noon"


@pytest.mark.slow
def test_a_chat_and_a_server_of_one_file(file, demo_folder, capsys, monkeypatch):
    """The file's model, engine options and sampling; the model by its name in the file, or the first of them."""
    pytest.importorskip("prometheus_client")
    import httpx2

    from runtime.chat import Chat

    file.write_text(
        f"""
        [models]
        tiny = '{demo_folder.path}'
        [options]
        device = "CPU"
        threads = 1
        lookup = 3
        kv_precision = "f16"
        verify = false
        [sampling]
        temperature = 0
        max_new_tokens = 5
        """
    )
    options = Options(threads=1, lookup=3, kv_precision="f16", verify=False)
    with Chat(demo_folder, device="CPU", options=options) as chat:
        wanted = chat.send("Who are you?", temperature=0, max_new_tokens=5).text
    monkeypatch.setattr("edge.cli.chat.is_terminal", lambda stream: False)
    monkeypatch.setattr("edge.cli.chat.read_stdin", lambda: "Who are you?")
    for arguments in ([], ["tiny"], [str(demo_folder.path)]):
        assert main(["chat", *arguments, "--config", str(file)]) == 0
        assert capsys.readouterr().out.strip() == wanted.strip()
    config = Config.load(str(file))
    pool = {"device": "CPU", "options": config.options.options(), "sampling": config.sampling.sampling()}
    with serving_ours(demo_folder.path, **pool) as (url, dispatcher):
        answer = httpx2.post(f"{url}/v1/chat/completions", json={"messages": ASK["messages"]}, timeout=60).json()
        assert answer["choices"][0]["message"]["content"] == wanted
        assert answer["usage"]["completion_tokens"] == 5
        (entry,) = dispatcher.pool.entries.values()
        assert entry.options == options
