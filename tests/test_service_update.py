"""A service's model is replaced while requests are answered, and back again; what cannot take its place is not."""

import asyncio
import json
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest

pytest.importorskip("starlette")
httpx2 = pytest.importorskip("httpx2")

from edge.cli import main  # noqa: E402
from edge.server.pool.model_pool import ModelPool  # noqa: E402
from edge.server.pool.models_file import ModelsFile  # noqa: E402
from edge.server.pool.replacement import replace_models  # noqa: E402
from runtime.errors import RequestError  # noqa: E402
from runtime.folder.model_folder import ModelFolder  # noqa: E402

from .test_serve import serving  # noqa: E402
from .test_server import until  # noqa: E402
from .test_service import MODELS, UNIT, control  # noqa: E402, F401

ASK = {"messages": [{"role": "user", "content": "Who are you?"}]}
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it has Linux's systemctl")


@pytest.fixture
def installed(control):  # noqa: F811
    """A service that is installed, according to its file."""
    unit = control / UNIT
    unit.parent.mkdir(parents=True)
    unit.touch()
    return ModelsFile(control / MODELS)


@contextmanager
def asking(url):
    """Clients that ask without a pause, by the kiosk's page and by streams: the list of what they were answered."""
    stopped, answers = Event(), []

    def ask():
        with httpx2.Client(base_url=url, timeout=60) as client:
            while not stopped.is_set():
                try:
                    reply = client.post("/chat", json=ASK)
                    answers.append((reply.status_code, "event: finish" in reply.text, "event: error" in reply.text))
                except httpx2.HTTPError as exc:
                    answers.append(repr(exc))

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(ask)
        try:
            yield answers
        finally:
            stopped.set()


@pytest.mark.slow
def test_a_kiosks_model_is_replaced_without_a_gap_and_back(installed, demo_folder, tmp_path, capsys):
    new, log = tmp_path / "new", tmp_path / "log"
    shutil.copytree(demo_folder.path, new)
    installed.write({"guide": str(demo_folder.path)})
    command = [sys.executable, "-m", "edge", "serve", "--models-file", str(installed.path), "--kiosk"]
    with serving([*command, "--device", "CPU"], log) as (url, _):
        until(lambda: installed.read_report() is not None)
        with asking(url) as answers:
            for wanted in (new, demo_folder.path, new):
                before = len(answers)
                until(lambda enough=before + 8: len(answers) >= enough, seconds=60)
                assert main(["service", "update", str(wanted)]) == 0
                assert (
                    f"guide is now the model of {wanted}; back: edge service update guide=" in capsys.readouterr().out
                )
            before = len(answers)
            until(lambda: len(answers) >= before + 8, seconds=60)
        assert {*answers} == {(200, True, False)}
        until(lambda: log.read_text().count("the replaced model of guide is closed") == 3, seconds=60)

        # What cannot take its place changes nothing, neither now nor at the next start.
        (broken := tmp_path / "broken").mkdir()
        assert main(["service", "update", str(broken)]) == 1
        shutil.copytree(new, broken, dirs_exist_ok=True)
        (broken / "openvino_model.bin").write_bytes(b"x" * (broken / "openvino_model.bin").stat().st_size)
        assert main(["service", "update", str(broken)]) == 1
        assert "is damaged: its hash differs" in capsys.readouterr().err
        installed.write({"guide": str(broken)})  # by hand
        until(lambda: installed.read_report().error, seconds=60)
        assert installed.read_report().folders == {"guide": str(new)}
        assert httpx2.post(f"{url}/chat", json=ASK, timeout=60).status_code == 200
    assert "Traceback" not in log.read_text()


WRONG = {
    "no folder": ([], "no model changes"),
    "the same": (["{old}"], "no model changes"),
    "another name": (["other={new}"], "the service has no model other"),
    "nothing there": (["{new}/none"], "there is no folder"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_an_update_that_is_refused(installed, demo_folder, tmp_path, capsys, case):
    installed.write({"guide": str(demo_folder.path)})
    values = {"old": demo_folder.path, "new": tmp_path}
    assert main(["service", "update", *(one.format(**values) for one in case[0])]) == 1
    assert case[1] in capsys.readouterr().err
    assert installed.read() == {"guide": str(demo_folder.path)}


def test_an_update_of_a_server_that_fails_is_taken_back(installed, demo_folder, tmp_path, capsys):
    """A server that answers with an error, as one without the memory for both models does."""
    shutil.copytree(demo_folder.path, tmp_path / "new")
    installed.write({"guide": str(demo_folder.path)})

    def answer():
        old = installed.version()
        until(lambda: installed.version() not in ("", old))
        installed.report(installed.version(), {}, "the memory has no room", "install it again")

    with ThreadPoolExecutor(1) as pool:
        server = pool.submit(answer)
        time.sleep(0.2)
        assert main(["service", "update", str(tmp_path / "new")]) == 1
        server.result()
    assert capsys.readouterr().err == "error: the memory has no room\nhint: install it again\n"
    assert installed.read() == {"guide": str(demo_folder.path)}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"a": 1}', "{", "\ud800"])
def test_a_models_file_that_is_none(tmp_path, text):
    file = ModelsFile(tmp_path / "models.json")
    file.path.write_text(text, errors="surrogatepass")
    with pytest.raises(RequestError, match=r"models\.json"):
        file.read()


def test_a_models_file_names_folders_beside_it(tmp_path, demo_folder):
    file = ModelsFile(tmp_path / "models.json")
    (tmp_path / "here").symlink_to(demo_folder.path)
    file.path.write_text(json.dumps({"a": "here"}))
    assert ModelFolder.open(file.read()["a"]).path == Path(tmp_path / "here")
    assert main(["serve", "x", "--models-file", str(file.path)]) == 1


def test_the_model_of_the_page_is_prepared_before_it_answers(tmp_path, demo_folder):
    """As at the start: a kiosk's system message and tools are read, and must fit its context."""
    (tmp_path / "next").symlink_to(demo_folder.path)

    async def replace(prepare):
        pool = ModelPool({"guide": demo_folder.path, "other": demo_folder.path}, device="CPU")
        try:
            old = pool.find("guide")
            await pool.load(old)
            seen = []

            async def note(model):
                seen.append((model is not old.model, pool.entries["guide"] is old))
                prepare()

            wanted = {"guide": str(tmp_path / "next"), "other": str(demo_folder.path)}
            try:
                await replace_models(pool, wanted, note)
            except RequestError as exc:
                return seen, str(exc), pool.entries["guide"] is old and old.loaded
            return seen, "", pool.entries["guide"].loaded
        finally:
            pool.close()

    def refuse():
        raise RequestError("the prompt has too many tokens", hint="shorten it")

    assert asyncio.run(replace(lambda: None)) == ([(True, True)], "", True)
    assert asyncio.run(replace(refuse)) == ([(True, True)], "the prompt has too many tokens", True)
