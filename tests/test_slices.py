"""In what slices a prompt is read, alone and beside others, and how large the prefix cache is."""

from contextlib import closing
from dataclasses import replace

import pytest

from runtime.backends.backend import Options, Request
from runtime.backends.openvino.paged import cache_reserve
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.sampling import SamplingParams


@pytest.fixture(scope="module")
def engine(demo_folder):
    with closing(OpenVINO.load(demo_folder, "CPU", Options(threads=1))) as loaded:
        yield loaded


def begin(engine, text, tokens=1):
    return engine.begin(Request((text,), (), SamplingParams(max_new_tokens=tokens)))


def steps(engine, *running):
    """The step in which each has its first token."""
    found = [0] * len(running)
    for step in range(1, 500):
        engine.step()
        for index, one in enumerate(running):
            if not found[index] and one.can_read():
                found[index] = step
        if all(found):
            return found
    raise AssertionError(found)


def test_a_prompt_is_read_by_128_tokens_and_by_32_beside_a_reply(engine):
    alone = "alone " + "1 2 3 4 5 " * 100
    (count,) = steps(engine, begin(engine, alone))
    assert count == pytest.approx(engine.count_tokens((alone,)) / 128, abs=2)
    reply = begin(engine, "7 8 9", tokens=400)
    steps(engine, reply)
    beside = "beside " + "1 2 3 4 5 " * 100
    (count,) = steps(engine, begin(engine, beside))
    assert count == pytest.approx(engine.count_tokens((beside,)) / 32, abs=3)
    engine.cancel(reply)


def test_a_short_prompt_does_not_wait_for_a_long_one(engine):
    long, short = begin(engine, "long " + "1 2 3 4 5 " * 180), begin(engine, "short " + "1 2 3 4 5 " * 20)
    last, first = steps(engine, long, short)
    assert first < last / 2


GB = 2**30


@pytest.mark.parametrize(
    ("bounds", "tokens"),
    [
        ((4 * 2**20, 1024, 2048), 1024),  # a quarter of what is free
        ((100 * GB, 2**20, 10**6), 4096),  # 4 GB
        ((100 * GB, 1024, 64), 1024),  # 16 contexts
    ],
)
def test_the_prefix_cache_has_bounds(demo_folder, monkeypatch, bounds, tokens):
    free, kv_bytes, context = bounds
    asked = []

    class Pipeline:
        """As far as making room goes; that the real one does it is shown by tests/test_prefix_cache.py."""

        def add_request(self, number, prompt, config):
            asked.append(prompt.shape[1] * 2)
            return self

        def step(self):
            pass

        def cancel(self):
            pass

        def has_non_finished_requests(self):
            return False

    monkeypatch.setattr(cache_reserve, "free_memory", lambda: free)
    manifest = replace(demo_folder.manifest, kv_bytes_per_token=kv_bytes, context_length=context)
    assert cache_reserve.reserve_cache(Pipeline(), replace(demo_folder, manifest=manifest), "CPU", 0) == tokens
    assert asked == [tokens, 2]  # and a single token, for the step
