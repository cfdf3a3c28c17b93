"""The format of a reply in the fields of OpenAI, vLLM, llama.cpp and SGLang: enforced, or rejected by name."""

import json
import re

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from edge.server.generation.reply_format import FormatFields  # noqa: E402
from edge.server.limits import Limits  # noqa: E402

from .serving import scripted, serving_ours  # noqa: E402
from .test_server import ASK, CHAT, WEATHER, ask  # noqa: E402

COMPLETIONS, RESPONSES = "/v1/completions", "/v1/responses"
SCHEMA = {
    "type": "object", "properties": {"open": {"type": "boolean"}}, "required": ["open"], "additionalProperties": False,
}  # fmt: skip
EBNF = 'root ::= "a" digit "b"\ndigit ::= [0-9]'
OPEN = r'\{ ?"open" ?: ?(true|false) ?\}'
FORMATS = {
    "guided_json": ({"guided_json": SCHEMA}, OPEN),
    "guided_json as text": ({"guided_json": json.dumps(SCHEMA)}, OPEN),
    "guided_regex": ({"guided_regex": "[ab]{3}"}, "[ab]{3}"),
    "guided_choice": ({"guided_choice": ["red", "green"]}, "red|green"),
    "guided_grammar": ({"guided_grammar": EBNF}, "a[0-9]b"),
    "guided_json_object": ({"guided_json_object": True}, r"\{.*"),
    "structured_outputs.json": ({"structured_outputs": {"json": SCHEMA}}, OPEN),
    "structured_outputs.json as text": ({"structured_outputs": {"json": json.dumps(SCHEMA)}}, OPEN),
    "structured_outputs.regex": ({"structured_outputs": {"regex": "[ab]{3}"}}, "[ab]{3}"),
    "structured_outputs.choice": ({"structured_outputs": {"choice": ["red", "green"]}}, "red|green"),
    "structured_outputs.grammar": ({"structured_outputs": {"grammar": EBNF}}, "a[0-9]b"),
    "structured_outputs.json_object": ({"structured_outputs": {"json_object": True}}, r"\{.*"),
    "structured_outputs with all defaults": (
        {"structured_outputs": {
            "json": None, "regex": "[ab]{3}", "choice": None, "grammar": None, "json_object": None,
            "disable_fallback": False, "disable_any_whitespace": False, "disable_additional_properties": False,
            "whitespace_pattern": None, "structural_tag": None,
        }},
        "[ab]{3}",
    ),
    "grammar": ({"grammar": EBNF}, "a[0-9]b"),
    "json_schema": ({"json_schema": SCHEMA}, OPEN),
    "json_schema as text": ({"json_schema": json.dumps(SCHEMA)}, OPEN),
    "regex": ({"regex": "[ab]{3}"}, "[ab]{3}"),
    "ebnf": ({"ebnf": EBNF}, "a[0-9]b"),
    "extra_body": ({"extra_body": {"guided_regex": "[ab]{3}", "top_k": 1}}, "[ab]{3}"),
    "empty ones": ({"grammar": "", "json_schema": None, "guided_json_object": False, "regex": "[ab]{3}"}, "[ab]{3}"),
    "beside a text": ({"response_format": {"type": "text"}, "regex": "[ab]{3}"}, "[ab]{3}"),
    "json_object": ({"response_format": {"type": "json_object"}}, r"\{.*"),
    "json_object with a schema": ({"response_format": {"type": "json_object", "schema": SCHEMA}}, OPEN),
    "json_schema of llama.cpp": ({"response_format": {"type": "json_schema", "schema": SCHEMA}}, OPEN),
    "json_schema of OpenAI": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}}, OPEN,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def client(demo_folder):
    with serving_ours(demo_folder.path) as (url, _), httpx2.Client(base_url=url, timeout=120) as client:
        yield client


@pytest.mark.parametrize(("body", "pattern"), FORMATS.values(), ids=FORMATS.keys())
def test_the_reply_has_the_format(client, body, pattern):
    said = ask(client, **body, max_tokens=40)["choices"][0]["message"]["content"]
    assert re.fullmatch(pattern, said, re.DOTALL)
    said = ask(client, COMPLETIONS, prompt="1 2", **body, max_tokens=40)["choices"][0]["text"]
    assert re.fullmatch(pattern, said, re.DOTALL)
    if "response_format" not in body:
        (item,) = ask(client, RESPONSES, input="?", **body, max_output_tokens=40)["output"]
        assert re.fullmatch(pattern, item["content"][0]["text"], re.DOTALL)


def test_every_continuation_has_the_format(client):
    choices = ask(client, COMPLETIONS, prompt="1 2", n=3, temperature=2.0, seed=1, regex="[ab]{8}")["choices"]
    assert all(re.fullmatch("[ab]{8}", choice["text"]) for choice in choices)


def test_the_names_are_described(client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for request in ("ChatRequest", "CompletionRequest", "ResponsesRequest"):
        assert set(FormatFields.model_fields) <= set(schemas[request]["properties"])


INVALID = {"type": "object", "properties": {"a": {"maxLength": -1}}}
FLAT_SCHEMA = {"type": "json_schema", "name": "a", "schema": INVALID}
REJECTED = {
    "structural_tag of vLLM": ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
    "structural_tag": ({"structural_tag": {"structures": []}}, "structural_tag"),
    "structural_tag as a format": ({"response_format": {"type": "structural_tag"}}, "response_format"),
    "whitespace": ({"guided_json": SCHEMA, "guided_whitespace_pattern": " "}, "guided_whitespace_pattern"),
    "no whitespace": (
        {"structured_outputs": {"json": SCHEMA, "disable_any_whitespace": True}},
        "structured_outputs.disable_any_whitespace",
    ),
    "an unknown constraint": ({"structured_outputs": {"xml": "a"}}, "structured_outputs.xml"),
    "a lazy grammar": ({"grammar": EBNF, "grammar_lazy": True}, "grammar_lazy"),
    "a grammar of TGI": ({"grammar": {"type": "regex", "value": "a"}}, "grammar"),
    "two": ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice"),
    "two of vLLM": ({"structured_outputs": {"json": SCHEMA, "regex": "a"}}, "structured_outputs.regex"),
    "one beside response_format": ({"response_format": {"type": "json_object"}, "ebnf": EBNF}, "ebnf"),
    "one in extra_body": ({"regex": "a", "extra_body": {"guided_regex": "a"}}, "regex"),
    "twice": ({"regex": "a", "extra_body": {"regex": "b"}}, "regex"),
    "an unsupported one in extra_body": ({"extra_body": {"structural_tag": "a"}}, "structural_tag"),
    "no choice": ({"guided_choice": []}, "guided_choice"),
    "an invalid regex": ({"guided_regex": "("}, "guided_regex"),
    "an invalid grammar": ({"grammar": "root ::= undefined"}, "grammar"),
    "no JSON": ({"guided_json": "{"}, "guided_json"),
    "an invalid schema": ({"guided_json": INVALID}, "guided_json"),
    "an invalid schema beside json_object": (
        {"response_format": {"type": "json_object", "schema": INVALID}}, "response_format.schema",
    ),
    "no schema": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
        "response_format.json_schema.schema",
    ),
    "no schema of llama.cpp": ({"response_format": {"type": "json_schema"}}, "response_format.schema"),
    "a large regex": ({"regex": "a" * 2**16 + "b"}, "regex"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "param"), REJECTED.values(), ids=REJECTED.keys())
def test_what_cannot_be_enforced_is_rejected_by_name(client, body, param):
    for path, start in ((CHAT, ASK), (COMPLETIONS, {"prompt": "a"})):
        refused = client.post(path, json=start | body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    if "response_format" not in body:
        refused = client.post(RESPONSES, json={"input": "?"} | body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


OWN = {
    "another API's name": ({"response_format": {"type": "json_object"}}, "response_format"),
    "an invalid schema": ({"text": {"format": FLAT_SCHEMA}}, "text.format.schema"),
    "two": ({"text": {"format": {"type": "json_object"}}, "regex": "a"}, "regex"),
}


@pytest.mark.parametrize(("body", "param"), OWN.values(), ids=OWN.keys())
def test_what_the_responses_reject(client, body, param):
    refused = client.post(RESPONSES, json={"input": "?"} | body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_an_invalid_schema_is_rejected_with_its_json_pointer(client):
    refused = client.post(CHAT, json=ASK | {"json_schema": INVALID}).json()["error"]
    assert "#/properties/a/maxLength is -1" in refused["message"]


def test_the_page_rejects_a_format(client):
    for name in ("response_format", "guided_json", "grammar"):
        refused = client.post("/chat", json=ASK | {name: {"type": "json_object"}})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, name)


def test_a_format_and_tools_leave_an_answer_or_a_call(bare_folder):
    replies = ["get_weather\n", '{"city": "Rome"}', "", "\n", "red"]
    body = {"tools": [WEATHER], "guided_choice": ["red", "green"]}
    with scripted(bare_folder, replies) as (url, *_), httpx2.Client(base_url=url, timeout=60) as client:
        assert ask(client, **body)["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
        assert ask(client, **body)["choices"][0]["message"]["content"] == "red"


def test_limits_apply_to_every_grammar(bare_folder):
    with scripted(bare_folder, ["\na"] * 9, limits=Limits(schema_bytes=20)) as (url, *_):
        for body in ({"regex": "a" * 21}, {"guided_choice": ["a" * 20]}, {"ebnf": f'root ::= "{"a" * 20}"'}):
            refused = httpx2.post(f"{url}{CHAT}", json=ASK | body, timeout=60)
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "schema_too_large")
