"""The names of a server's models: own names, links, aliases, case; and what is ambiguous is rejected early."""

import sys

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from edge.cli import main  # noqa: E402
from edge.server.errors import ApiError  # noqa: E402
from edge.server.pool.model_names import ModelNames, parse_folder  # noqa: E402
from edge.server.pool.model_pool import ModelPool  # noqa: E402
from runtime.errors import RequestError  # noqa: E402

from .serving import scripted  # noqa: E402
from .test_server import ASK, CHAT  # noqa: E402


def names():
    found = ModelNames()
    found.add("glm4-int4", "GLM-4-9B-0414")
    found.add("glm4-int8", "GLM-4-9B-0414")
    found.add("Z1", "GLM-Z1-9B-0414")
    found.add_alias("gpt-4o", "")
    found.add_alias("o1:latest", "z1")
    return found


@pytest.mark.parametrize(
    ("asked", "name"),
    {
        "glm4-int4": "glm4-int4",
        "GLM4-INT8": "glm4-int8",
        "glm4-int8:latest": "glm4-int8",
        " z1 ": "Z1",
        "glm-z1-9b-0414": "Z1",
        "GLM-4-9B-0414": "glm4-int4",  # the first of that checkpoint
        "gpt-4o": "glm4-int4",
        "GPT-4o:latest": "glm4-int4",
        "o1": "Z1",
        "": None,
        "glm4": None,
        "z1:int4": None,
    }.items(),
)
def test_a_request_finds_its_model(asked, name):
    assert names().find(asked) == name


@pytest.mark.parametrize(
    ("act", "words"),
    {
        lambda found: found.add("GLM4-int4", "x"): "two models are named GLM4-int4",
        lambda found: found.add("z1:latest", "x"): "two models are named z1:latest",
        lambda found: found.add("GPT-4o", "x"): "two models are named GPT-4o",
        lambda found: found.add_alias("Z1", ""): "the alias 'Z1' is a model's name",
        lambda found: found.add_alias("GPT-4O", "z1"): "the alias 'GPT-4O' is a model's name",
        lambda found: found.add_alias("other", "nowhere"): "is for 'nowhere', which is not served here",
    }.items(),
)
def test_what_is_ambiguous_is_rejected(act, words):
    with pytest.raises(RequestError, match=words) as found:
        act(names())
    assert found.value.hint


def test_a_folder_may_have_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b").mkdir()
    (tmp_path / "target").mkdir()
    if sys.platform != "win32":
        (tmp_path / "link").symlink_to("target")
        assert parse_folder("./link") == ("link", "./link")
    for text, wanted in {
        "small=./target": ("small", "./target"),
        "小=target": ("小", "target"),
        "./target/": ("target", "./target/"),
        ".": (tmp_path.name, "."),
        "target/..": (tmp_path.name, "target/.."),
        "a=b": ("a=b", "a=b"),  # it exists
        "./a=c": ("a=c", "./a=c"),
        "=x": ("=x", "=x"),
        "x=": ("x=", "x="),
    }.items():
        assert parse_folder(text) == wanted


def test_the_pool_has_the_names_of_links_and_of_the_command_line(bare_folder, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(bare_folder.path)
    pool = ModelPool([str(link), f"mine={bare_folder.path}"], aliases={"gpt-4o": "MINE"})
    assert list(pool.entries) == ["current", "mine"]
    assert pool.find("gpt-4o").name == "mine"
    assert pool.find(None).name == "current"
    assert list(ModelPool({"a": bare_folder.path, "b": bare_folder.path}).entries) == ["a", "b"]
    with pytest.raises(ApiError, match="there is no model 'nowhere' here"):
        pool.find("nowhere")
    with pytest.raises(RequestError, match="two models are named Mine"):
        ModelPool([f"mine={bare_folder.path}", f"Mine={bare_folder.path}"])


def test_an_alias_is_listed_and_answers(bare_folder):
    with scripted(bare_folder, ["\nHello."] * 2, aliases={"gpt-4o": ""}) as (url, dispatcher, _):
        (entry,) = dispatcher.pool.entries.values()
        listed = httpx2.get(f"{url}/v1/models").json()["data"]
        assert [(model["id"], model["parent"]) for model in listed] == [(entry.name, None), ("gpt-4o", entry.name)]
        assert httpx2.get(f"{url}/v1/models/GPT-4o:latest").json()["id"] == entry.name
        for name in ("gpt-4o", entry.name.upper()):
            assert httpx2.post(f"{url}{CHAT}", json=ASK | {"model": name}).status_code == 200


def test_the_command_line_names_models(capsys, demo_folder):
    folder = str(demo_folder.path)
    for arguments, words in (
        ([folder, "--alias", "x=nowhere"], "is for 'nowhere', which is not served here"),
        ([folder, "--alias", "=x"], "--alias '=x' has no name for clients"),
        ([f"a={folder}", f"A={folder}"], "two models are named A"),
    ):
        assert main(["serve", *arguments]) == 1
        assert words in capsys.readouterr().err
