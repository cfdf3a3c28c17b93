"""What the prefix cache is taken to hold, what it does hold, and what cancelling leaves in it."""

import random
from contextlib import closing

import pytest

from runtime.backends.backend import Delta, Options, Request
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.backends.openvino.paged.pipeline import step_tokens
from runtime.backends.openvino.paged.prefix_cache import BLOCK, PrefixCache
from runtime.sampling import SamplingParams

EXACT = Options(precision="f32", kv_precision="f32", activation_group=0, threads=1)
WORDS = "what is in this picture tell me all that you see and where it is ferry boat".split()


@pytest.mark.parametrize(
    ("computed", "asked", "whole", "ragged"),
    [
        (0, 100, 0, True),
        (64, 100, 64, True),
        (70, 100, 64, True),
        (100, 100, 96, True),
        (100, 65, 64, False),
        (100, 64, 32, False),
        (96, 200, 96, True),
    ],
)
def test_blocks_are_found_by_all_that_stands_before_them(computed, asked, whole, ragged):
    ids = list(range(1000, 1000 + 200))
    cache = PrefixCache(4096)
    cache.add(ids[: computed + 1], computed)
    assert cache.match(ids[:asked]) == (whole, ragged)
    assert cache.match([7, *ids[:asked]]) == (0, False)
    assert whole % BLOCK == 0


def test_what_was_used_longest_ago_is_forgotten_first():
    cache = PrefixCache(1024 * BLOCK)
    first = [0] * 64
    cache.add(first, 64)
    for number in range(1, 2000):
        cache.add([number] * 64, 64)
        cache.match([*first, 1])
    assert cache.match([*first, 1])[0] == 64
    assert cache.match([1] * 65)[0] == 0


def test_only_blocks_that_the_pool_still_holds_are_counted():
    cache = PrefixCache(4 * BLOCK)
    first = [1] * 3 * BLOCK
    cache.add(first, len(first))
    assert cache.count_kept(first) == 2 * BLOCK  # the last id is computed
    assert cache.count_kept([*first, 2]) == 3 * BLOCK
    cache.add([3] * 2 * BLOCK, 2 * BLOCK)
    assert cache.count_kept([*first, 2]) == 0  # its first block may have been dropped
    assert cache.match([*first, 2])[0] == 3 * BLOCK


def prompts(count: int) -> list[str]:
    draw = random.Random(1)
    texts = (" ".join(draw.choice(WORDS) for _ in range(draw.randrange(200, 900))) for _ in range(count))
    return [f"[gMASK]<sop><|user|>\n{text}<|assistant|>" for text in texts]


def logprobs(engine: OpenVINO, prompt: str) -> list[float]:
    request = Request((prompt,), (), SamplingParams(max_new_tokens=6, logprobs=True))
    return [part.logprob.logprob for part in engine.generate(request) if isinstance(part, Delta) and part.logprob]


@pytest.mark.slow
def test_log_probabilities_after_200_random_cancels_are_those_of_a_fresh_engine(demo_folder):
    asked = prompts(5)
    wanted = {}
    for prompt in asked:
        with closing(OpenVINO.load(demo_folder, "CPU", EXACT)) as fresh:
            wanted[prompt] = logprobs(fresh, prompt)
    draw = random.Random(2)
    with closing(OpenVINO.load(demo_folder, "CPU", EXACT)) as engine:
        for _ in range(200):
            others = [
                engine.begin(
                    Request((draw.choice(asked)[: draw.randrange(30, 400)],), (), SamplingParams(max_new_tokens=400))
                )
                for _ in range(draw.choice((0, 0, 1, 3, 5)))
            ]
            for _ in range(draw.randrange(8)):
                engine.step()
            prompt = draw.choice(asked)
            cancelled = engine.begin(Request((prompt,), (), SamplingParams(max_new_tokens=50)))
            for _ in range(draw.randrange(6)):
                engine.step()
            engine.cancel(cancelled)
            if draw.random() < 0.5:
                engine.cancel(*others)
                others = []
            found = logprobs(engine, prompt)
            assert max(abs(a - b) for a, b in zip(found, wanted[prompt], strict=True)) < 1e-4
            engine.cancel(*others)


@pytest.mark.slow
@pytest.mark.parametrize("lookup", [0, 4])
def test_ten_chats_in_turn_read_their_new_tokens_alone(demo_folder, lookup, monkeypatch):
    """Each step reads so few tokens that their number tells what was computed."""
    step = step_tokens("CPU", lookup)
    options = Options(lookup=lookup, threads=1)
    with closing(OpenVINO.load(demo_folder, "CPU", options)) as engine:
        steps = 0
        pipeline = engine.pipeline

        class Steps:
            def __getattr__(self, name):
                return getattr(pipeline, name)

            def step(self):
                nonlocal steps
                steps += 1
                pipeline.step()

        monkeypatch.setattr(engine, "pipeline", Steps())
        chats = [f"[gMASK]<sop><|user|>\n{number} " + "1 2 3 4 5 " * 60 for number in range(10)]
        for turn in range(3):
            for number, chat in enumerate(chats):
                new = chat + f"<|assistant|>\nYes.<|user|>\n{turn} and " + "6 7 8 9 " * 12
                length, before = engine.count_tokens((new,)), engine.count_tokens((chat,)) if turn else 0
                steps = 0
                list(engine.generate(Request((new,), (), SamplingParams(max_new_tokens=1))))
                chats[number] = new
                assert (steps - 2) * step <= length - before  # one ends a block that was begun, one is not full
