"""`edge batch`: a file of requests becomes a file of results, whatever interrupts it."""

import json
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

from edge.cli import main
from edge.server.batch.journal import ResultJournal
from edge.server.batch.request_file import RequestFile
from runtime.errors import RequestError

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
CHAT = {"messages": [{"role": "user", "content": "Who are you?"}]}


def line(custom_id="a", url="/v1/chat/completions", body=CHAT, **more):
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body} | more


def write(path, *lines):
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines))
    return path


def read(path):
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def batch(bare_folder, tmp_path, capfd):
    """Run `edge batch` on lines, on the fake engine: the exit code, the output, and what is printed."""

    def run(*lines, output="out.jsonl"):
        requests = write(tmp_path / "in.jsonl", *lines)
        model = ("--model", str(bare_folder.path), "--device", "ECHO")
        code = main(["batch", str(requests), str(tmp_path / output), *model])
        return code, tmp_path / output, capfd.readouterr().err

    return run


INVALID = {
    "no JSON": ("{", "invalid_json_line", None),
    "no object": ("[]", "invalid_json_line", None),
    "no id": (line(None), "invalid_value", "custom_id"),
    "an empty id": (line(""), "invalid_value", "custom_id"),
    "a number as id": (line(7), "invalid_value", "custom_id"),
    "another method": (line(method="GET"), "invalid_method", "method"),
    "another path": (line(url="/v1/files"), "invalid_url", "url"),
    "a list as path": (line(url=["/v1/responses"]), "invalid_url", "url"),
    "no body": (line(body=None), "invalid_value", "body"),
    "too large": (line(body={"a": "b" * 2000}), "too_large", None),
    "NaN": ('{"custom_id": "a", "body": {"temperature": NaN}}', "invalid_json_line", None),
}


@pytest.mark.parametrize(("content", "code", "param"), INVALID.values(), ids=INVALID)
def test_a_line_that_is_no_request_is_named(tmp_path, content, code, param):
    path = write(tmp_path / "in.jsonl", "", content, "  ", line("last"))
    with path.open("rb") as opened:
        file = RequestFile(opened, PATHS, str, max_bytes=1000, max_requests=10)
    (found,) = file.invalid
    assert (found.line, found.code, found.param) == (2, code, param)
    assert [(request.custom_id, request.line) for request in file.requests] == [("last", 4)]


@pytest.mark.parametrize(
    ("content", "says"),
    [("\ufeff{}".encode("utf-16"), "UTF-16"), (b"{}\n" * 11, "more than 10 requests")],
    ids=["UTF-16", "too many"],
)
def test_a_file_that_cannot_be_run_is_rejected(tmp_path, content, says):
    (tmp_path / "in.jsonl").write_bytes(content)
    with (tmp_path / "in.jsonl").open("rb") as opened, pytest.raises(RequestError, match=says):
        RequestFile(opened, PATHS, str, max_bytes=1000, max_requests=10)


def test_bodies_are_read_where_they_are(tmp_path):
    bodies = [{"prompt": f"{number} 你好"} for number in range(3)]
    lines = [json.dumps(line(str(number), body=body), ensure_ascii=False) for number, body in enumerate(bodies)]
    (tmp_path / "in.jsonl").write_bytes("\r\n\r\n".join(["\ufeff" + lines[0], *lines[1:]]).encode())  # no last newline
    with (tmp_path / "in.jsonl").open("rb") as opened:
        file = RequestFile(opened, PATHS, str, max_bytes=1000, max_requests=10)
        assert [file.read_body(request) for request in file.requests] == bodies


def test_results_are_in_the_order_of_the_requests(batch):
    code, output, said = batch(
        line("chat"),
        line("text", "/v1/completions", {"prompt": "Once"}),
        "{",
        line("wrong", body=CHAT | {"temperature": 9}),
        line("unknown", body=CHAT | {"model": "gpt"}),
        line("streamed", body=CHAT | {"stream": True}),
        line("response", "/v1/responses", {"input": "Hello"}),
    )
    chat, text, invalid, wrong, unknown, streamed, response = read(output)
    assert code == 1
    assert "4 of 7 requests failed" in said
    assert [one["custom_id"] for one in (chat, text, response)] == ["chat", "text", "response"]
    assert all(one["response"]["status_code"] == 200 and one["error"] is None for one in (chat, text, response))
    assert chat["response"]["body"]["choices"][0]["message"]["content"].startswith("I was sent ")
    assert text["response"]["body"]["object"] == "text_completion"
    assert response["response"]["body"]["object"] == "response"
    assert (invalid["custom_id"], invalid["response"], invalid["error"]["line"]) == (None, None, 3)
    for one, status, param in ((wrong, 400, "temperature"), (unknown, 404, "model"), (streamed, 400, "stream")):
        assert one["response"]["status_code"] == status
        assert one["response"]["body"]["error"]["param"] == param
    assert all(
        request in said for request in ("] chat: ", "] wrong: error 400: temperature", "line 3: the line is not")
    )
    assert len({one["id"] for one in read(output)}) == 7


def test_what_was_answered_is_not_run_again(batch):
    code, output, said = batch(line("a"), line("b", body=CHAT | {"temperature": 9}))
    first = read(output)
    assert code == 1
    code, _, said = batch(line("new"), line("a"), line("b", body=CHAT | {"temperature": 1}))
    assert (code, "1 of 3 requests were answered by an earlier run" in said, "] a: " in said) == (0, True, False)
    new, a, b = read(output)
    assert a == first[0]
    assert new["response"]["status_code"] == b["response"]["status_code"] == 200
    changed = CHAT | {"max_tokens": 1}
    _, _, said = batch(line("new"), line("a", body=changed), line("b", body=CHAT | {"temperature": 1}))
    assert "] a: " in said
    assert read(output)[1]["response"]["body"]["choices"][0]["finish_reason"] == "length"
    before = output.read_bytes()
    code, _, said = batch(line("other"))
    assert (code, output.read_bytes()) == (1, before)
    assert "has results of other requests" in said
    assert [path.name for path in sorted(output.parent.glob("*out*"))] == ["out.jsonl"]


def test_what_cannot_be_run_is_rejected_at_once(batch, tmp_path):
    code, output, said = batch(line("a"), line("b"), line("a"))
    assert (code, output.exists(), "lines 1 and 3 have the same custom_id" in said) == (1, False, True)
    code, output, said = batch(line("a", body=CHAT | {"model": "gpt"}))
    assert (code, output.exists(), "names a model that is not here, such as 'gpt'" in said) == (1, False, True)
    code, output, said = batch(line("a"), output="in.jsonl")
    assert (code, "would replace the requests" in said) == (1, True)
    (tmp_path / "notes.txt").write_text("mine\n")
    code, output, said = batch(line("a"), output="notes.txt")
    assert (code, output.read_text(), "is not an output of `edge batch`" in said) == (1, "mine\n", True)
    assert not list(tmp_path.glob("*.partial"))


def test_one_process_at_a_time_writes_an_output(batch, tmp_path):
    journal = ResultJournal(tmp_path / "out.jsonl")
    code, output, said = batch(line("a"))
    assert (code, output.exists(), "another `edge batch` writes" in said) == (1, False, True)
    journal.close()
    assert batch(line("a"))[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["SIGINT", "SIGKILL"])
@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signals")
def test_an_interrupted_run_goes_on(demo_folder, tmp_path, ending):
    lines = [line(str(number), body=CHAT | {"max_tokens": 8 if number else 1900}) for number in range(25)]
    lines[0]["body"] |= {"temperature": 5, "response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}
    lines[0]["body"]["response_format"]["json_schema"]["schema"] = {"type": "string", "minLength": 1900}
    requests, output = write(tmp_path / "in.jsonl", *lines), tmp_path / "out.jsonl"
    journal = tmp_path / "out.jsonl.partial"
    command = [sys.executable, "-m", "edge", "batch", str(requests), str(output), "--model", str(demo_folder.path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while not journal.exists() or journal.read_bytes().count(b"\n") < 5:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(getattr(signal, ending))
        _, said = process.communicate()
    assert process.returncode == {"SIGINT": 130, "SIGKILL": -9}[ending]
    assert ending != "SIGINT" or b"the same command goes on" in said
    assert not output.exists()
    answered = [json.loads(one)["custom_id"] for one in journal.read_bytes().splitlines()]
    with journal.open("ab") as file:
        file.write(b'{"id": "batch_req_half')
    write(requests, *lines[1:])
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{len(answered)} of 24 requests were answered by an earlier run".encode() in done.stderr
    assert [one["custom_id"] for one in read(output)] == [one["custom_id"] for one in lines[1:]]
    assert all(one["response"]["status_code"] == 200 for one in read(output))
    assert not journal.exists()


def test_a_model_that_cannot_be_loaded_ends_the_run(bare_folder, tmp_path, capfd):
    requests = write(tmp_path / "in.jsonl", line("a"))
    command = ["batch", str(requests), str(tmp_path / "out.jsonl"), "--model", str(bare_folder.path), "--device", "CPU"]
    assert main(command) == 1
    assert "error: " in capfd.readouterr().err
    assert not list(tmp_path.glob("out*"))
