"""/v1/files and /v1/batches, as the official `openai` client uses them."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

openai = pytest.importorskip("openai")
httpx2 = pytest.importorskip("httpx2")
pytest.importorskip("prometheus_client")

from edge.server.batch import file_store  # noqa: E402
from edge.server.batch.file_store import FileStore  # noqa: E402
from edge.server.errors import ApiError  # noqa: E402
from edge.server.guard.api_keys import ApiKey  # noqa: E402
from edge.server.limits import Limits  # noqa: E402

from .serving import scripted  # noqa: E402

CHAT = "/v1/chat/completions"
ASK = {"messages": [{"role": "user", "content": "Who are you?"}]}

NO_FILE = b'--a\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--a--'


def lines(*bodies, path=CHAT):
    requests = ({"custom_id": f"r{i}", "method": "POST", "url": path, "body": body} for i, body in enumerate(bodies))
    return "".join(json.dumps(request) + "\n" for request in requests).encode()


@pytest.fixture
def served(bare_folder):
    """A client, and the engine behind it, which waits `pause` seconds before each character."""
    with (
        scripted(bare_folder, [], limits=Limits(running=4)) as (url, dispatcher, engine),
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        client.dispatcher = dispatcher
        yield client, engine


def begin(client, content, endpoint=CHAT, **more):
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more)


def wait(client, batch, *statuses):
    end = time.monotonic() + 60
    while (now := client.batches.retrieve(batch.id)).status not in statuses:
        assert time.monotonic() < end, now
        time.sleep(0.02)
    return now


def read(client, id):
    return {one["custom_id"]: one for one in map(json.loads, client.files.content(id).text.splitlines())}


def test_a_file_is_stored_listed_and_deleted(served):
    client, _ = served
    content = '{"你": "好"}\n'.encode() * 200_000  # more than starlette keeps in memory by default
    first = client.files.create(file=("requests.jsonl", content), purpose="batch")
    assert (first.bytes, first.filename, first.purpose, first.object) == (
        len(content),
        "requests.jsonl",
        "batch",
        "file",
    )
    second = client.files.create(file=b"{}", purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600})
    assert second.expires_at == second.created_at + 3600
    assert client.files.content(first.id).content == content
    assert client.files.retrieve(second.id) == second
    assert [file.id for file in client.files.list()] == [second.id, first.id]
    assert [file.id for file in client.files.list(limit=1, order="asc")] == [first.id, second.id]  # in two pages
    assert client.files.list(purpose="batch_output").data == []
    assert client.files.delete(first.id).deleted
    with pytest.raises(openai.NotFoundError, match="there is no file"):
        client.files.retrieve(first.id)


def test_a_batch_is_answered(served):
    client, _ = served
    batch = begin(client, lines(ASK, ASK | {"temperature": 9}, ASK | {"stream": True}), metadata={"night": "1"})
    assert batch.status in ("validating", "in_progress")
    done = wait(client, batch, "completed")
    counts = done.request_counts
    assert (counts.total, counts.completed, counts.failed) == (3, 1, 2)
    assert done.metadata == {"night": "1"}
    assert done.created_at <= done.in_progress_at <= done.finalizing_at <= done.completed_at
    answered, failed = read(client, done.output_file_id), read(client, done.error_file_id)
    response = answered["r0"]["response"]
    assert (list(answered), response["status_code"]) == (["r0"], 200)
    assert response["body"]["choices"][0]["message"]["content"].startswith("I was sent ")
    assert {name: one["response"]["body"]["error"]["param"] for name, one in failed.items()} == {
        "r1": "temperature",
        "r2": "stream",
    }
    assert client.files.retrieve(done.output_file_id).purpose == "batch_output"
    assert [one.id for one in client.batches.list()] == [batch.id]
    with pytest.raises(openai.BadRequestError, match="the batch is completed"):
        client.batches.cancel(batch.id)


@pytest.mark.parametrize(
    ("path", "body", "object"),
    [("/v1/completions", {"prompt": "Once"}, "text_completion"), ("/v1/responses", {"input": "Hello"}, "response")],
)
def test_a_batch_of_another_endpoint(served, path, body, object):
    client, _ = served
    done = wait(client, begin(client, lines(body, path=path), path), "completed")
    assert read(client, done.output_file_id)["r0"]["response"]["body"]["object"] == object


def test_an_invalid_file_fails_with_its_lines(served):
    client, _ = served
    wrong = lines(ASK, path="/v1/responses")  # not the batch's endpoint
    failed = wait(client, begin(client, b"{\n" + wrong + wrong), "failed")
    assert [(error.line, error.code) for error in failed.errors.data] == [
        (1, "invalid_json_line"),
        (2, "invalid_url"),
        (3, "invalid_url"),
    ]
    failed = wait(client, begin(client, lines(ASK) * 2), "failed")
    assert [(error.line, error.code) for error in failed.errors.data] == [(2, "duplicate_custom_id")]
    failed = wait(client, begin(client, b"\n"), "failed")
    assert failed.errors.data[0].message.startswith("the file has no requests")


def test_a_cancelled_batch_keeps_what_was_answered(served):
    client, engine = served
    batch = begin(client, lines(*[ASK] * 3, *[ASK | {"user": str(i)} for i in range(60)]))
    while client.batches.retrieve(batch.id).request_counts.completed < 3:
        time.sleep(0.005)
    engine.pause = 0.05
    assert client.batches.cancel(batch.id).status == "cancelling"
    ended = wait(client, batch, "cancelled")
    engine.pause = 0.0
    answered, others = read(client, ended.output_file_id), read(client, ended.error_file_id)
    assert len(answered) == ended.request_counts.completed >= 3
    assert len(answered) + len(others) == ended.request_counts.total == 63
    assert {one["error"]["code"] for one in others.values()} == {"batch_cancelled"}
    (entry,) = client.dispatcher.pool.entries.values()
    while entry.queue.running:  # until the engine's next step
        time.sleep(0.01)


@pytest.mark.slow
def test_a_batch_has_half_of_the_turns_and_waits_for_others(served):
    client, engine = served
    (entry,) = client.dispatcher.pool.entries.values()
    engine.pause = 0.02
    batch = begin(client, lines(*[ASK] * 40))
    seen = set()
    for _ in range(20):
        seen.add(entry.queue.running)
        time.sleep(0.01)
    assert max(seen) == 2
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(client.chat.completions.create, model="bare", **ASK) for _ in range(12)]
        for future in asked:
            assert future.result().choices[0].message.content
    assert client.batches.retrieve(batch.id).request_counts.completed < 20
    engine.pause = 0.0
    assert wait(client, batch, "completed").request_counts.completed == 40


def test_clients_of_other_keys_see_nothing(bare_folder):
    keys = (ApiKey("one-secret", "anna"), ApiKey("two-secret", "ben"))
    with scripted(bare_folder, [], keys=keys) as (url, *_):
        anna, ben = (openai.OpenAI(base_url=f"{url}/v1", api_key=key.secret, max_retries=0) for key in keys)
        batch = begin(anna, lines(ASK))
        done = wait(anna, batch, "completed")
        assert (list(ben.files.list()), list(ben.batches.list())) == ([], [])
        for ask in (
            lambda: ben.batches.retrieve(batch.id),
            lambda: ben.batches.cancel(batch.id),
            lambda: ben.files.content(done.output_file_id),
            lambda: ben.files.delete(done.output_file_id),
            lambda: ben.batches.create(input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h"),
        ):
            with pytest.raises(openai.NotFoundError):
                ask()
        assert read(anna, done.output_file_id)
        with pytest.raises(openai.AuthenticationError):
            anna.with_options(api_key="other").files.list()


def test_what_a_batch_cannot_have_is_rejected(served):
    client, _ = served
    file = client.files.create(file=b"{}", purpose="batch")
    asked = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"}
    for change, param in (
        ({"endpoint": "/v1/files"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {"a": "b" * 513}}, "metadata.a"),
    ):
        with pytest.raises(openai.BadRequestError) as rejected:
            client.batches.create(**asked | change)
        assert rejected.value.param == param
    with pytest.raises(openai.NotFoundError):
        client.batches.create(**asked | {"input_file_id": "file-1"})
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_1")
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.files.create(file=b"{}", purpose="user_data")
    with pytest.raises(openai.BadRequestError):
        client.files.list(after="file-1")
    done = wait(client, begin(client, lines(ASK)), "completed")
    with pytest.raises(openai.BadRequestError, match="purpose is not batch"):
        client.batches.create(**asked | {"input_file_id": done.output_file_id})


@pytest.mark.parametrize(
    ("content_type", "body", "param"),
    [
        ("application/json", b"{}", None),
        ("multipart/form-data", b"", None),
        ("multipart/form-data; boundary=a", b"nothing", None),
        ("multipart/form-data; boundary=a", NO_FILE, "file"),
    ],
)
def test_a_body_that_is_no_upload_is_rejected(served, content_type, body, param):
    client, _ = served
    url = str(client.base_url).removesuffix("/") + "/files"
    rejected = httpx2.post(url, content=body, headers={"Content-Type": content_type})
    assert (rejected.status_code, rejected.json()["error"]["param"]) == (400, param)


def test_files_are_bounded_and_belong_to_their_client(monkeypatch):
    monkeypatch.setattr(file_store, "CLIENT_BYTES", 100)
    monkeypatch.setattr(file_store, "TOTAL_BYTES", 150)
    store = FileStore()
    first = store.add("one", "a", "batch", bytes(80))
    with pytest.raises(ApiError) as full:
        store.add("one", "b", "batch", bytes(21))
    assert full.value.status == 413
    store.reserve("two", 60)
    with pytest.raises(ApiError) as full:
        store.add("three", "c", "batch", bytes(11))
    assert full.value.status == 503
    store.release("two", 60)
    store.add("three", "c", "batch", bytes(11))
    with pytest.raises(ApiError) as absent:
        store.get("two", first.id)
    assert absent.value.status == 404
    assert store.list("two") == []
    gone = store.add("two", "d", "batch", b"", seconds=0)
    with pytest.raises(ApiError):
        store.get("two", gone.id)
