"""The table of endpoints: a new one is a file of its own and a line of the table, and a sampling setting is a field."""

from dataclasses import fields

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

from pydantic import BaseModel  # noqa: E402
from starlette.responses import JSONResponse  # noqa: E402
from starlette.routing import compile_path  # noqa: E402

from edge.server.app import ENDPOINTS  # noqa: E402
from edge.server.endpoint import Endpoint  # noqa: E402
from edge.server.error_formats import ErrorFormats  # noqa: E402
from edge.server.generation.fields import SAMPLING_FIELDS, SamplingFields, merge_sampling  # noqa: E402
from edge.server.guard.body import read_body  # noqa: E402
from edge.server.openai.chat_request import ChatRequest  # noqa: E402
from edge.server.openai.completions import CompletionRequest  # noqa: E402
from edge.server.page.chat import PageRequest  # noqa: E402
from edge.server.page.kiosk import Kiosk  # noqa: E402
from edge.server.responses.request import ResponsesRequest  # noqa: E402
from runtime.sampling import Sampling  # noqa: E402

from .serving import scripted  # noqa: E402


class CountRequest(BaseModel):
    text: str
    model: str | None = None


class Counted(BaseModel):
    characters: int


async def count(dispatcher, request):
    body = await read_body(request, CountRequest)
    dispatcher.pool.find(body.model)
    return JSONResponse(Counted(characters=len(body.text)).model_dump())


COUNT = Endpoint("POST", "/v1/count", count, CountRequest, Counted)


def test_a_line_of_the_table_is_an_endpoint(bare_folder):
    with (
        scripted(bare_folder, [], endpoints=(*ENDPOINTS, COUNT)) as (url, *_),
        httpx2.Client(base_url=url) as client,
    ):
        assert client.post("/v1/count", json={"text": "four"}).json() == {"characters": 4}
        for body, status, code in (({}, 400, "invalid_value"), ({"text": "", "model": "x"}, 404, "model_not_found")):
            refused = client.post("/v1/count", json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
        assert client.get("/v1/count").status_code == 405
        document = client.get("/openapi.json").json()
        described = document["paths"]["/v1/count"]["post"]
        assert described["operationId"] == "post_v1_count"
        assert described["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/CountRequest")
        assert set(document["components"]["schemas"]["Counted"]["properties"]) == {"characters"}
        assert 'edge_requests_total{path="/v1/count",status="200"} 1.0' in client.get("/metrics").text


@pytest.mark.slow
def test_the_document_has_every_endpoint(bare_folder):
    for kiosk in (None, Kiosk()):
        with scripted(bare_folder, [], kiosk=kiosk) as (url, *_):
            paths = httpx2.get(f"{url}/openapi.json").json()["paths"]
            listed = {endpoint for endpoint in ENDPOINTS if endpoint.documented and (endpoint.on_kiosk or not kiosk)}
            files = {path for path in paths if path.startswith(("/v1/files", "/v1/batches"))}
            assert set(paths) == {endpoint.path for endpoint in listed} | {"/chat"} | files
            assert len(files) == (0 if kiosk else 6)
            gets = [endpoint.path for endpoint in ENDPOINTS if endpoint.method == "GET"]
            of_one = [compile_path(path)[0] for path in gets if "{" in path]
            for endpoint in ENDPOINTS:
                status = httpx2.get(f"{url}{endpoint.path}").status_code
                missing = endpoint.path not in gets or "{" in endpoint.path
                missing = missing and any(pattern.match(endpoint.path) for pattern in of_one)
                assert (status == 404) == (missing or bool(kiosk and not endpoint.on_kiosk))


SETTINGS = {
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 5,
    "min_p": 0.25,
    "repetition_penalty": 1.5,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
}


def test_a_sampling_setting_is_one_field():
    assert set(SAMPLING_FIELDS) == set(SamplingFields.model_fields) - {"model", "stream"} == set(SETTINGS)
    by_another_name = {"seed", "stop", "max_new_tokens", "logprobs", "prompt_logprobs", "top_logprobs", "logit_bias"}
    assert {field.name for field in fields(Sampling)} - by_another_name == set(SETTINGS)
    chat = {"messages": [{"role": "user", "content": "?"}]}
    requests = {
        ChatRequest: chat,
        CompletionRequest: {"prompt": "?"},
        ResponsesRequest: {"input": "?"},
        PageRequest: chat,
    }
    for request, required in requests.items():
        merged = merge_sampling(request(**required, **SETTINGS), Sampling(), max_new_tokens=None)
        assert {name: getattr(merged, name) for name in SETTINGS} == SETTINGS
        unset = merge_sampling(request(**required), Sampling(top_k=7, temperature=0.7), max_new_tokens=None)
        assert (unset.top_k, unset.temperature) == (7, 0.7)


# A path, and the type of API whose format its errors have.
FORMATS = {
    "/v1/messages": "anthropic", "/v1/messages/count_tokens": "anthropic", "/v1/messages/batches/1": "anthropic",
    "/api/chat": "ollama", "/api/nowhere": "ollama", "/api/nowhere/else": "ollama",
    "/v1/chat/completions": "", "/v1/nowhere": "", "/v1/models/x": "", "/": "", "/nowhere": "", "/apinowhere": "",
}  # fmt: skip


@pytest.mark.parametrize(("path", "api"), FORMATS.items())
def test_an_error_has_the_format_of_the_api_of_its_path(path, api):
    found = ErrorFormats(ENDPOINTS).get(path)
    assert (found.__module__.split(".")[2] if found else "") == api


def test_an_unknown_path_of_an_api_is_rejected_in_its_format(bare_folder):
    with scripted(bare_folder, [], api_key="key") as (url, *_), httpx2.Client(base_url=url) as client:
        for headers in ({}, {"Authorization": "Bearer key"}):
            ollama = client.post("/api/nowhere", headers=headers).json()
            assert isinstance(ollama["error"], str)
            anthropic = client.get("/v1/messages/batches", headers=headers).json()
            assert anthropic["type"] == "error"
            assert client.get("/v1/nowhere", headers=headers).json()["error"]["type"].endswith("_error")
