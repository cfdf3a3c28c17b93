"""The OpenAPI document, from the models by which requests are read and answers are written."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from runtime.version import VERSION

from .errors import ErrorReply
from .pool.dispatcher import Dispatcher


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path, who answers it, and the models of the request and of the answer, where they are JSON."""

    method: str
    path: str
    handler: Callable[[Dispatcher, Request], Awaitable[Response]]
    request_model: type[BaseModel] | None
    response_model: type[BaseModel] | None
    stream: bool = False


def openapi_document(operations: Sequence[Endpoint], has_key: bool) -> dict[str, Any]:
    requests = [(op.request_model, "validation") for op in operations if op.request_model]
    replies = [(op.response_model, "serialization") for op in operations if op.response_model]
    wanted = list(dict.fromkeys([*requests, *replies, (ErrorReply, "serialization")]))
    names, definitions = models_json_schema(wanted, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    paths: dict[str, Any] = {}
    for op in operations:
        name = f"{op.method.lower()}_{op.path.strip('/').replace('/', '_')}"
        described: dict[str, Any] = {"operationId": name, "responses": {}}
        content: dict[str, Any] = (
            {"application/json": {"schema": names[op.response_model, "serialization"]}}
            if op.response_model
            else {"text/plain": {}}
        )
        if op.stream:
            content["text/event-stream"] = {}
        described["responses"]["200"] = {"description": "The answer", "content": content}
        error = {"application/json": {"schema": names[ErrorReply, "serialization"]}}
        described["responses"]["default"] = {"description": "An error", "content": error}
        if op.request_model:
            body = {"application/json": {"schema": names[op.request_model, "validation"]}}
            described["requestBody"] = {"required": True, "content": body}
        paths.setdefault(op.path, {})[op.method.lower()] = described
    out: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "glm4-edge", "version": VERSION},
        "paths": paths,
        "components": {"schemas": definitions["$defs"]},
    }
    if has_key:
        out["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        out["security"] = [{"key": []}]
    return out
