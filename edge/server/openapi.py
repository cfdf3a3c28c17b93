"""The OpenAPI document, generated from the models that validate requests and serialize responses."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic.json_schema import models_json_schema

from runtime.version import VERSION

from .endpoint import Endpoint

_NO_BRACES = str.maketrans("", "", "{}")
_FILE = {"type": "string", "contentMediaType": "application/octet-stream"}


def openapi_document(endpoints: Sequence[Endpoint], has_key: bool, root_path: str = "") -> dict[str, Any]:
    """Describe the endpoints in OpenAPI 3.1. With `has_key`, clients authenticate with a bearer token; a proxy
    serves the paths below `root_path`."""
    endpoints = [endpoint for endpoint in endpoints if endpoint.documented]
    requests = [(one.request_model, "validation") for one in endpoints if one.request_model and not one.upload]
    replies = [(endpoint.response_model, "serialization") for endpoint in endpoints if endpoint.response_model]
    errors = [(endpoint.error_model, "serialization") for endpoint in endpoints]
    wanted = list(dict.fromkeys([*requests, *replies, *errors]))
    names, definitions = models_json_schema(wanted, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        name = f"{endpoint.method.lower()}_{endpoint.path.strip('/').replace('/', '_')}".translate(_NO_BRACES)
        described: dict[str, Any] = {"operationId": name, "responses": {}}
        if parameters := _parameters(endpoint):
            described["parameters"] = parameters
        content: dict[str, Any] = (
            {"application/json": {"schema": names[endpoint.response_model, "serialization"]}}
            if endpoint.response_model
            else {}
        )
        content |= {name: {} for name in endpoint.other_types or (() if content else ("text/plain",))}
        if endpoint.stream:
            content[endpoint.stream_type] = {}
        described["responses"]["200"] = {"description": "The answer", "content": content}
        error = {"application/json": {"schema": names[endpoint.error_model, "serialization"]}}
        described["responses"]["default"] = {"description": "An error", "content": error}
        if endpoint.upload:
            described["requestBody"] = {
                "required": True,
                "content": {"multipart/form-data": {"schema": _form(endpoint)}},
            }
        elif endpoint.request_model:
            body = {"application/json": {"schema": names[endpoint.request_model, "validation"]}}
            described["requestBody"] = {"required": True, "content": body}
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = described
    out: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "glm4-edge", "version": VERSION},
        "paths": paths,
        "components": {"schemas": definitions["$defs"]},
    }
    out = _with_short_names(out)
    if root_path:
        out["servers"] = [{"url": root_path}]
    if has_key:
        out["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        out["security"] = [{"key": []}]
    return out


def _with_short_names(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with the models that several APIs name alike under short names: ChatRequest for OpenAI's,
    OllamaChatRequest for another's, instead of the names of their modules."""
    text, names = json.dumps(document), set(document["components"]["schemas"])
    for name in sorted(names, key=len, reverse=True):
        package, _, model = name.rpartition("__")
        if package:
            api = package.split("__")[-2]
            short = model if api == "openai" else f"{api.title()}{model}"
            if short not in names:
                names.add(short)
                text = text.replace(f'{name}"', f'{short}"')
    found: dict[str, Any] = json.loads(text)
    return found


def _form(endpoint: Endpoint) -> dict[str, Any]:
    """Describe the form of an endpoint: its file, and the fields of its model."""
    described = endpoint.request_model.model_json_schema() if endpoint.request_model else {}
    fields = {"file": _FILE, **described.get("properties", {})}
    return {"type": "object", "properties": fields, "required": ["file", *described.get("required", ())]}


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    """Describe the parameters in an endpoint's path and query."""
    in_path = [
        {"name": part.strip("{}"), "in": "path", "required": True, "schema": {"type": "string"}}
        for part in endpoint.path.split("/")
        if part.startswith("{")
    ]
    if endpoint.query_model is None:
        return in_path
    query = endpoint.query_model.model_json_schema()["properties"]
    return [*in_path, *({"name": name, "in": "query", "schema": schema} for name, schema in query.items())]
