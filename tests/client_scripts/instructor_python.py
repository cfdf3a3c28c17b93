"""instructor: every reply is an object, so that plain chat and streams are of objects, too."""

from typing import Literal

import instructor
from features import BASE, MODEL, WHO, expect, run
from openai import OpenAI
from pydantic import BaseModel


class Shop(BaseModel):
    open: bool
    room: Literal["bar", "hall"]


def client(mode):
    return instructor.from_openai(OpenAI(base_url=f"{BASE}/v1", api_key="none", max_retries=0), mode=mode)


def ask(mode, *messages):
    given = [*messages, {"role": "user", "content": "Is the shop open?"}]
    shop = client(mode).chat.completions.create(
        model=MODEL, messages=given, response_model=Shop, max_retries=0, max_tokens=300
    )
    expect(type(shop.open) is bool, shop)


def stream():
    parts = client(instructor.Mode.JSON_SCHEMA).chat.completions.create_partial(
        model=MODEL, messages=[{"role": "user", "content": "Is the shop open?"}], response_model=Shop, max_tokens=300
    )
    parts = list(parts)
    expect(len(parts) > 1 and type(parts[-1].open) is bool, parts)


def schema():
    ask(instructor.Mode.JSON_SCHEMA)
    ask(instructor.Mode.TOOLS_STRICT)


def second_turn():
    ask(
        instructor.Mode.JSON_SCHEMA,
        {"role": "user", "content": WHO},
        {"role": "assistant", "content": "I am a model."},
    )


run(
    chat=lambda: ask(instructor.Mode.JSON_SCHEMA),
    stream=stream,
    tools=lambda: ask(instructor.Mode.TOOLS),
    schema=schema,
    second_turn=second_turn,
)
