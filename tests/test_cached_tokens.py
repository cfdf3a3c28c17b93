"""The usage of a reply has the tokens of its prompt that an earlier prompt began with, as the engine reused them."""

import pytest

pytest.importorskip("starlette")
httpx2 = pytest.importorskip("httpx2")

from .serving import serving_ours  # noqa: E402


def test_the_second_turn_reuses_the_first_ones_prompt(demo_folder):
    said = [{"role": "user", "content": "When is the kiosk open on Mondays? " * 12}]
    with serving_ours(demo_folder.path) as (url, _), httpx2.Client(base_url=url, timeout=120) as client:
        body = {"messages": said, "temperature": 0, "max_tokens": 8}
        first = client.post("/v1/chat/completions", json=body).json()
        assert first["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
        said += [first["choices"][0]["message"], {"role": "user", "content": "And on Sundays?"}]
        second = client.post("/v1/chat/completions", json=body).json()["usage"]
        cached = second["prompt_tokens_details"]["cached_tokens"]
        assert first["usage"]["prompt_tokens"] - 32 <= cached < second["prompt_tokens"]
        again = client.post("/v1/responses", json={"input": said, "temperature": 0, "max_output_tokens": 8}).json()
        assert again["usage"]["input_tokens"] == second["prompt_tokens"]
        assert again["usage"]["input_tokens_details"]["cached_tokens"] >= cached
