"""Hooks of schemathesis: replies are short, so that a run takes minutes, and most of the identifiers of files and
batches exist."""

import json
import random

import schemathesis

MOST_TOKENS = 16
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict")
UNLIMITED = ("/v1/chat/completions", "/v1/responses", "/chat")  # their replies may fill the context
BODIES = ({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}, {"messages": []}, {"model": "missing"})
LINES = "".join(
    json.dumps({"custom_id": str(i), "method": "POST", "url": "/v1/chat/completions", "body": body}) + "\n"
    for i, body in enumerate(BODIES)
)
chosen = random.Random(1)
ids = {"/v1/files": [], "/v1/batches": []}


def shorten(body, names):
    for name in names:
        if body.get(name) is None or (isinstance(body[name], int) and not 0 <= body[name] <= MOST_TOKENS):
            body[name] = MOST_TOKENS


@schemathesis.hook
def before_call(context, case, kwargs):
    path, body = case.operation.path, case.body
    if isinstance(body, dict):
        shorten(body, [name for name in LIMITS if name in body] or ["max_tokens"] * (path in UNLIMITED))
        if path in {"/api/chat", "/api/generate"} and isinstance(body.setdefault("options", {}), dict):
            shorten(body["options"], ["num_predict"])
        if path == "/v1/files" and chosen.random() < 0.5:
            body |= {"purpose": "batch", "file": LINES}
        if path == "/v1/batches" and ids["/v1/files"] and chosen.random() < 0.9:
            known = {"input_file_id": chosen.choice(ids["/v1/files"]), "endpoint": "/v1/chat/completions"}
            body |= known | {"completion_window": "24h"}
    real = ids.get("/".join(path.split("/")[:3]))
    if real and "id" in (case.path_parameters or {}) and chosen.random() < (0.1 if case.method == "DELETE" else 0.9):
        case.path_parameters["id"] = chosen.choice(real)


@schemathesis.hook
def after_call(context, case, response):
    if case.method == "POST" and case.operation.path in ids and response.status_code == 200:
        ids[case.operation.path].append(response.json()["id"])
