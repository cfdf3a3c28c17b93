"""The memory of the Responses API: stored responses, references, conversations; and what is left out of a request."""

import json
import sqlite3
import sys
from contextlib import contextmanager

import pytest

pytest.importorskip("starlette")
httpx2 = pytest.importorskip("httpx2")
openai = pytest.importorskip("openai")

from edge.server.limits import Limits  # noqa: E402
from edge.server.responses.store.memory_store import MemoryStore  # noqa: E402
from edge.server.responses.store.record import Record  # noqa: E402
from edge.server.responses.store.sqlite_store import SqliteStore  # noqa: E402
from edge.server.responses.tools import LEFT_OUT  # noqa: E402
from runtime.errors import RequestError  # noqa: E402

from .serving import scripted  # noqa: E402

WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
CALL = "weather\n{}"


class Served:
    """A server with scripted replies, OpenAI's client, and the prompts that reached the engine."""

    def __init__(self, url, engine):
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        self.http = httpx2.Client(base_url=url)
        self._engine = engine

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.client.close()
        self.http.close()

    def create(self, **body):
        return self.client.responses.create(model="bare", **body)

    @property
    def prompt(self):
        return "".join(self._engine.requests[-1].prompt).removeprefix("[gMASK]<sop>").removesuffix("<|assistant|>")


@contextmanager
def serving(folder, replies, **settings):
    with scripted(folder, replies, **settings) as (url, _, engine), Served(url, engine) as served:
        yield served


@pytest.fixture
def served(bare_folder):
    with serving(bare_folder, [f"\nReply {number}." for number in range(1, 20)]) as served:
        yield served


def test_a_response_goes_on_from_the_one_before(served):
    first = served.create(input="One?", instructions="Be brief.", metadata={"a": "b"}, user="me")
    second = served.create(input="Two?", previous_response_id=first.id)
    assert served.prompt == "<|user|>\nOne?<|assistant|>\nReply 1.<|user|>\nTwo?"  # instructions are not inherited
    assert second.previous_response_id == first.id
    with served.client.responses.stream(model="bare", input="Three?", previous_response_id=second.id) as stream:
        third = stream.get_final_response()
    assert served.prompt.endswith("Reply 2.<|user|>\nThree?")
    served.create(input="Four?", previous_response_id=third.id, instructions="Be kind.")
    assert served.prompt.startswith("<|system|>\nBe kind.<|user|>\nOne?")
    assert served.prompt.endswith("<|assistant|>\nReply 3.<|user|>\nFour?")
    stored = served.client.responses.retrieve(first.id)
    assert (stored.output_text, stored.metadata, stored.user, stored.store) == ("Reply 1.", {"a": "b"}, "me", True)
    assert stored == first


def test_what_is_not_stored_is_not_there(served):
    unstored = served.create(input="One?", store=False)
    assert unstored.store is False
    deleted = served.create(input="Two?")
    served.client.responses.delete(deleted.id)
    for id in (unstored.id, deleted.id, "resp_0"):
        with pytest.raises(openai.NotFoundError, match="not found"):
            served.client.responses.retrieve(id)
        with pytest.raises(openai.NotFoundError):
            served.client.responses.input_items.list(id)
        with pytest.raises(openai.BadRequestError, match="not found") as caught:
            served.create(input="?", previous_response_id=id)
        assert (caught.value.param, caught.value.code) == ("previous_response_id", "previous_response_not_found")
    for item in (*unstored.output, *deleted.output):
        with pytest.raises(openai.NotFoundError, match="not found"):
            served.create(input=[{"type": "item_reference", "id": item.id}])


def test_references_to_items(served):
    """As AI SDK's default provider sends its second turn."""
    first = served.create(input="One?")
    user, reference = {"role": "user", "content": "One?"}, {"type": "item_reference", "id": first.output[0].id}
    served.create(input=[user, reference, reference, {"role": "user", "content": "Two?"}])
    assert served.prompt == "<|user|>\nOne?<|assistant|>\nReply 1.<|user|>\nTwo?"
    served.create(
        input=[{"id": first.output[0].id}, {"role": "user", "content": "Three?"}], previous_response_id=first.id
    )
    assert served.prompt == "<|user|>\nOne?<|assistant|>\nReply 1.<|user|>\nThree?"  # it is there already


def test_calls_and_their_outputs(bare_folder):
    with serving(bare_folder, [CALL, "\nSunny.", CALL, "\nRainy."]) as served:
        first = served.create(input="The weather?", tools=[WEATHER])
        (call,) = first.output
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "clear"}
        second = served.create(input=[output], previous_response_id=first.id, tools=[WEATHER])
        assert second.output_text == "Sunny."
        assert served.prompt.endswith("<|user|>\nThe weather?<|assistant|>weather \n{}<|observation|>\nclear")
        asked = {"role": "user", "content": "The weather?"}
        again = served.create(input=[asked], tools=[WEATHER])
        reference = {"type": "item_reference", "id": again.output[0].id}
        output |= {"call_id": again.output[0].call_id, "output": [{"type": "input_text", "text": "rain"}]}
        served.create(input=[asked, reference, output], tools=[WEATHER])
        assert served.prompt.endswith("<|user|>\nThe weather?<|assistant|>weather \n{}<|observation|>\nrain")


def test_input_items_are_listed_in_pages(served):
    texts = [f"{number}?" for number in range(5)]
    made = served.create(input=[{"role": "user", "content": text} for text in texts])
    listed = served.client.responses.input_items.list
    assert [item.content[0].text for item in listed(made.id, order="asc", limit=2)] == texts  # page by page
    newest = listed(made.id)
    assert [item.content[0].text for item in newest.data] == texts[::-1]
    page = served.http.get(f"/v1/responses/{made.id}/input_items", params={"limit": 2, "order": "asc"}).json()
    assert (page["object"], page["has_more"]) == ("list", True)
    assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][1]["id"])
    for query in ({"limit": 0}, {"limit": 101}, {"order": "up"}, {"after": "msg_0"}):
        refused = served.http.get(f"/v1/responses/{made.id}/input_items", params=query)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, next(iter(query)))


def test_conversations(served):
    api = served.client.conversations
    made = api.create(items=[{"role": "system", "content": "Be brief."}], metadata={"topic": "tests"})
    first = served.create(input="One?", conversation=made.id)
    assert first.conversation.id == made.id
    with served.client.responses.stream(model="bare", input="Two?", conversation=made.id) as stream:
        stream.until_done()
    assert served.prompt == "<|system|>\nBe brief.<|user|>\nOne?<|assistant|>\nReply 1.<|user|>\nTwo?"
    added = api.items.create(made.id, items=[{"type": "message", "role": "user", "content": "Three?"}])
    items = list(api.items.list(made.id, order="asc", limit=3))
    assert [item.role for item in items] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert api.items.retrieve(added.data[0].id, conversation_id=made.id).content[0].text == "Three?"
    assert api.items.delete(added.data[0].id, conversation_id=made.id).id == made.id
    served.create(input="Four?", conversation={"id": made.id}, store=False)
    assert served.prompt.endswith("Reply 2.<|user|>\nFour?")
    assert api.update(made.id, metadata={"topic": "new"}).metadata == {"topic": "new"}
    assert api.retrieve(made.id).metadata == {"topic": "new"}
    with pytest.raises(openai.BadRequestError, match="belongs to a conversation"):
        served.create(input="?", previous_response_id=first.id)
    with pytest.raises(openai.BadRequestError, match="mutually exclusive"):
        served.create(input="?", previous_response_id=first.id, conversation=made.id)
    assert api.delete(made.id).deleted
    for lost in (lambda: api.retrieve(made.id), lambda: served.create(input="?", conversation=made.id)):
        with pytest.raises(openai.NotFoundError, match="not found"):
            lost()


@pytest.mark.parametrize(
    "item", [{"role": "user", "content": 5}, {"role": "nobody"}, {"type": "item_reference", "id": "x"}]
)
def test_a_conversation_takes_only_what_the_model_reads(served, item):
    made = served.client.conversations.create()
    for path in ("/v1/conversations", f"/v1/conversations/{made.id}/items"):
        refused = served.http.post(path, json={"items": [item]})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "items")


def test_tools_of_other_types_are_left_out_and_named(served):
    others = [
        {"type": "namespace", "name": "mcp__files", "tools": [WEATHER]},
        {"type": "web_search"},
        {"type": "custom", "name": "apply_patch", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
    ]
    made = served.create(input="?", tools=[WEATHER, *others], metadata={"a": "b"})
    assert made.metadata == {"a": "b", LEFT_OUT: "namespace mcp__files, web_search, custom apply_patch"}
    assert '"name": "weather"' in served.prompt
    assert "mcp__files" not in served.prompt
    for choice in (
        {"type": "web_search"},
        {"type": "custom", "name": "apply_patch"},
        {"type": "mcp", "server_label": "x"},
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            served.create(input="?", tools=[WEATHER, *others], tool_choice=choice)
        assert caught.value.param == "tool_choice"
    with pytest.raises(openai.BadRequestError, match=r"tools\[0\].name"):
        served.create(input="?", tools=[{"type": "function", "name": "a b"}])


def test_allowed_tools(bare_folder):
    clock = WEATHER | {"name": "clock"}
    with serving(bare_folder, ["\nHi.", "clock\n{}"]) as served:
        choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "clock"}]}
        served.create(input="?", tools=[WEATHER, clock], tool_choice=choice)
        assert ('"name": "clock"' in served.prompt, '"name": "weather"' in served.prompt) == (True, False)
        called = served.create(input="?", tools=[WEATHER, clock], tool_choice=choice | {"mode": "required"})
        assert called.output[0].name == "clock"


def test_a_custom_tool_is_called_with_a_text(bare_folder):
    tool = {"type": "custom", "name": "shell", "description": "Runs a command."}
    replies = ['shell\n{"input": "ls \\"a b\\""}', "\nDone.", 'shell\n{"input": "pwd"}']
    with serving(bare_folder, replies) as served:
        first = served.create(input="?", tools=[tool])
        (call,) = first.output
        assert (call.type, call.name, call.input) == ("custom_tool_call", "shell", 'ls "a b"')
        output = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "x"}
        assert served.create(input=[output], tools=[tool], previous_response_id=first.id).output_text == "Done."
        assert '<|assistant|>shell \n{"input": "ls \\"a b\\""}<|observation|>\nx' in served.prompt
        with served.client.responses.stream(model="bare", input="?", tools=[tool]) as stream:
            kinds = [event.type for event in stream]
            assert stream.get_final_response().output[0].input == "pwd"
        assert "response.custom_tool_call_input.done" in kinds


REJECTED = {
    "background": {"background": True},
    "prompt": {"prompt": {"id": "pmpt_1"}},
    "include": {"include": ["everything"]},
    "metadata.a": {"metadata": {"a": "b" * 513}},
    "input": {"input": []},
    "input[0]": {"input": [{"type": "web_search_call", "id": "ws_1"}]},
    "truncation": {"truncation": "some"},
}


@pytest.mark.parametrize(("param", "body"), REJECTED.items(), ids=REJECTED.keys())
def test_what_is_rejected_by_name(served, param, body):
    refused = served.http.post("/v1/responses", json={"input": "?"} | body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_a_long_conversation_is_cut_or_rejected(bare_folder):
    from runtime.backends.echo import Echo

    class Small(Echo):
        max_prompt_tokens = 600

        def __init__(self, replies):
            super().__init__(replies, max_prompt_tokens=600)

    said = [{"role": "system", "content": "Be brief."}]
    for turn in range(8):
        said += [{"role": "user", "content": f"Question {turn}?"}, {"role": "assistant", "content": "a" * 80}]
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    said += [
        {"role": "user", "content": "Last?"},
        call,
        {"type": "function_call_output", "call_id": "c", "output": "o"},
    ]
    with serving(bare_folder, ["\nYes."] * 4, engine=Small) as served:
        for body in ({}, {"truncation": "disabled"}):
            with pytest.raises(
                openai.BadRequestError, match=r"maximum context length is 600 tokens\. However,"
            ) as caught:
                served.create(input=said, **body)
            assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "input")
        *_, failed = served.create(input=said, stream=True)  # the event that Codex knows
        assert (failed.type, failed.response.error.code) == ("response.failed", "context_length_exceeded")
        assert served.create(input=said, truncation="auto").truncation == "auto"
        assert served.prompt.startswith("<|system|>\nBe brief.<|user|>\nQuestion 6?")
        assert served.prompt.endswith("<|user|>\nLast?<|assistant|>f \n{}<|observation|>\no")
        plain = [*said[:-3], {"role": "user", "content": "Last?"}]
        served.create(input=plain, truncation="auto")
        assert served.prompt.endswith("<|assistant|>\n" + "a" * 80 + "<|user|>\nLast?")
        many = [said[0], said[-3]]
        for number in range(8):
            again = {"call_id": f"c{number}"}
            many += [call | again, said[-1] | again | {"output": f"{number}" * 100}]
        served.create(input=many, truncation="auto")
        assert served.prompt.startswith("<|system|>\nBe brief.<|user|>\nLast?<|assistant|>f \n{}<|observation|>\n666")


def test_a_stored_conversation_is_no_larger_than_a_body(bare_folder):
    with serving(bare_folder, ["\nYes."] * 4, limits=Limits(body_bytes=20_000)) as served:
        first = served.create(input="a" * 9_000)
        second = served.create(input="a" * 9_000, previous_response_id=first.id)
        made = served.client.conversations.create(items=[{"role": "user", "content": "a" * 19_000}])
        served.client.conversations.items.create(made.id, items=[{"role": "user", "content": "a" * 9_000}])
        for context in ({"previous_response_id": second.id}, {"conversation": made.id}):
            with pytest.raises(openai.BadRequestError, match="more than 20,000 bytes") as caught:
                served.create(input="?", **context)
            assert caught.value.param == next(iter(context))


def test_a_stream_that_is_closed_is_stored_as_cancelled(bare_folder):
    with scripted(bare_folder, ["\n" + "word " * 200], pause=0.01) as (url, *_):
        with httpx2.stream("POST", f"{url}/v1/responses", json={"input": "?", "stream": True}) as answer:
            for line in answer.iter_lines():
                event = json.loads(line[6:]) if line.startswith("data: ") else {}
                if event.get("type") == "response.created":
                    id = event["response"]["id"]
                elif event.get("type") == "response.output_text.delta":
                    break
        while (found := httpx2.get(f"{url}/v1/responses/{id}")).status_code == 404:
            pass
        assert (found.json()["status"], found.json()["output"][0]["status"]) == ("cancelled", "incomplete")


def record(id, owner="a", size=10):
    item = {"id": f"msg_{id}", "type": "message", "role": "user", "content": "x" * size}
    return Record(id, owner, "response", {"id": id, "output": [{"id": f"out_{id}", "type": "message"}]}, [item])


@pytest.fixture(params=["memory", "file"])
def new_store(request, tmp_path):
    def make(count=3, nbytes=10_000):
        opened = (
            SqliteStore(tmp_path / "r.sqlite", count, nbytes) if request.param == "file" else MemoryStore(count, nbytes)
        )
        request.addfinalizer(opened.close)
        return opened

    return make


def test_the_store_keeps_what_was_used_last(new_store):
    store = new_store()
    for id in "123":
        assert store.put(record(id))
    assert store.get("a", "1") == record("1")
    assert store.put(record("4"))
    assert [store.get("a", id) is not None for id in "1234"] == [True, False, True, True]
    assert store.find_item("a", "out_2") is None
    assert store.find_item("a", "msg_4") == record("4").items[0]
    assert store.put(record("5", size=9_800))
    assert [store.get("a", id) is not None for id in "1345"] == [False, False, False, True]
    assert not store.put(record("6", size=10_000))
    assert store.get("a", "5") is not None


def test_a_client_sees_its_own_records_alone(new_store):
    store = new_store()
    store.put(record("1", "a"))
    for found in (
        store.get("b", "1"),
        store.find_item("b", "msg_1"),
        store.delete("b", "1"),
        store.append("b", "1", []),
    ):
        assert not found
    store.put(record("1", "b", size=5))
    assert (store.get("a", "1").items, store.get("b", "1").items) == (record("1").items, record("1", size=5).items)
    assert store.delete("a", "1")
    assert not store.delete("a", "1")
    assert store.get("b", "1")


def test_one_client_does_not_drop_anothers_records(new_store):
    store = new_store()
    store.put(record("1", "b"))
    for number in range(2, 9):
        store.put(record(str(number), "a"))
    store.put(record("large", "a", size=9_000))
    store.put(record("also large", "a", size=9_000))
    assert store.get("b", "1")
    assert [store.get("a", id) is not None for id in ("8", "large", "also large")] == [False, False, True]
    store.put(record("2", "b", size=4_000))
    assert not store.put(record("3", "c", size=9_500))
    assert (store.get("b", "2") is not None, store.get("c", "3")) == (True, None)


def test_items_are_appended(new_store):
    store = new_store()
    store.put(Record("c", "a", "conversation", {"id": "c"}))
    for id in "xy":
        assert store.append("a", "c", [{"id": id, "type": "message"}])
    assert [item["id"] for item in store.get("a", "c").items] == ["x", "y"]
    assert store.find_item("a", "y") == {"id": "y", "type": "message"}
    assert not store.append("a", "none", [])


def test_a_file_is_opened_again_and_forgets_what_was_deleted(tmp_path):
    path = tmp_path / "responses.sqlite"
    store = SqliteStore(path, 10, 100_000)
    secret = Record("1", "a", "response", {"id": "1", "output": []}, [{"id": "m", "content": "a secret word"}])
    store.put(secret)
    store.close()
    if sys.platform != "win32":
        assert path.stat().st_mode & 0o77 == 0
    assert b"a secret word" in path.read_bytes()
    store = SqliteStore(path, 10, 100_000)
    assert store.get("a", "1") == secret
    store.delete("a", "1")
    store.close()
    assert b"a secret word" not in path.read_bytes()


def test_a_file_of_another_program_or_version_is_rejected(tmp_path):
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()
    with pytest.raises(RequestError, match="another program"):
        SqliteStore(other, 1, 1)
    later = tmp_path / "later.sqlite"
    SqliteStore(later, 10, 1000).close()
    with sqlite3.connect(later) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(RequestError, match="another version"):
        SqliteStore(later, 1, 1)
    (tmp_path / "text").write_text("no database" * 100)
    for path in (tmp_path / "text", tmp_path / "nowhere" / "r.sqlite"):
        with pytest.raises(RequestError, match="cannot be opened"):
            SqliteStore(path, 1, 1)


def test_clients_with_keys_of_their_own_see_their_own_responses(bare_folder, tmp_path):
    from edge.server.guard.api_keys import ApiKey

    file = str(tmp_path / "responses.sqlite")
    settings = {"keys": (ApiKey("k1", "ann"), ApiKey("k2", "bob")), "store": file}
    ann, bob = {"authorization": "Bearer k1"}, {"authorization": "Bearer k2"}
    with scripted(bare_folder, ["\nHi."] * 2, **settings) as (url, *_):
        made = httpx2.post(f"{url}/v1/responses", json={"input": "?"}, headers=ann).json()
        reference = [{"type": "item_reference", "id": made["output"][0]["id"]}]
        for body, status in (({"input": "?", "previous_response_id": made["id"]}, 400), ({"input": reference}, 404)):
            assert httpx2.post(f"{url}/v1/responses", json=body, headers=bob).status_code == status
        assert httpx2.get(f"{url}/v1/responses/{made['id']}", headers=bob).status_code == 404
        assert httpx2.delete(f"{url}/v1/responses/{made['id']}", headers=bob).status_code == 404
    with scripted(bare_folder, ["\nHi."], **settings) as (url, *_):  # another server, the same file
        assert httpx2.get(f"{url}/v1/responses/{made['id']}", headers=ann).json() == made


def test_input_tokens_are_those_of_the_prompt(served):
    first = served.create(input="One?", instructions="Be brief.", tools=[WEATHER])
    counted = served.client.responses.input_tokens.count(input="One?", instructions="Be brief.", tools=[WEATHER])
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", first.usage.input_tokens)
    second = served.client.responses.input_tokens.count(input="Two?", previous_response_id=first.id)
    assert second.input_tokens == served.create(input="Two?", previous_response_id=first.id).usage.input_tokens


def test_a_conversation_is_compacted(bare_folder):
    replies = ["\nHello, Ada.", "\nThe user is Ada.", "\nYou are Ada."]
    with serving(bare_folder, replies) as served:
        first = served.create(input="I am Ada.")
        compacted = served.client.responses.compact(model="bare", previous_response_id=first.id)
        assert compacted.object == "response.compaction"
        assert [item.type for item in compacted.output] == ["message", "compaction"]
        assert compacted.output[1].encrypted_content == "The user is Ada."
        assert "<|assistant|>\nHello, Ada.<|user|>\nSummarize" in served.prompt
        said = [item.model_dump(exclude_none=True, warnings=False) for item in compacted.output]
        served.create(input=[*said, {"role": "user", "content": "Who am I?"}])
        summary = "<|system|>\nSummary of the conversation so far:\nThe user is Ada."
        assert served.prompt == f"{summary}<|user|>\nI am Ada.<|user|>\nWho am I?"
