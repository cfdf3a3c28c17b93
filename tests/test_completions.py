"""POST /v1/completions on the real engine: several prompts, token ids, echoes, log-probabilities, vLLM's fields."""

import json
import re

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx2 = pytest.importorskip("httpx2")

import edge  # noqa: E402
from runtime.model import Model  # noqa: E402
from runtime.reply.reply import Reply  # noqa: E402

from .serving import serving_ours  # noqa: E402

PATH = "/v1/completions"
COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
TEXTS = ["The weather in Oslo", "[1, 2, 3, ", "洗手间在哪里？"]


@pytest.fixture(scope="module")
def client(demo_folder):
    with serving_ours(demo_folder.path) as (url, _), httpx2.Client(base_url=url, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def model(demo_folder):
    with Model(demo_folder, device="CPU") as loaded:
        yield loaded


def ask(client, prompt, **body):
    answer = client.post(PATH, json={"prompt": prompt, "max_tokens": 6} | body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def stream(client, prompt, **body):
    """The chunks, and the choices that they add up to."""
    with client.stream("POST", PATH, json={"prompt": prompt, "max_tokens": 6, "stream": True} | body) as answer:
        data = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    assert data.pop() == "[DONE]"
    chunks = [json.loads(line) for line in data]
    choices: dict[int, dict] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            found = choices.setdefault(choice["index"], {"text": "", "token_ids": [], "logprobs": {}, "reasons": []})
            found["text"] += choice["text"]
            found["token_ids"] += choice.get("token_ids", [])
            found["reasons"] += [choice["finish_reason"]] * bool(choice["finish_reason"])
            for name, values in (choice["logprobs"] or {}).items():
                found["logprobs"].setdefault(name, []).extend(values or [])
    return chunks, [choices[index] for index in sorted(choices)]


def encode(model, text):
    return model.backend.encode((model.family.prefix, text))


def test_each_prompt_has_its_choices(client, model):
    single = [ask(client, text) for text in TEXTS]
    alone = [answer["choices"][0]["text"] for answer in single]
    written = 2 * sum(answer["usage"]["completion_tokens"] for answer in single)
    answer = ask(client, TEXTS, n=2)
    assert [choice["index"] for choice in answer["choices"]] == list(range(6))
    assert [choice["text"] for choice in answer["choices"]] == [text for text in alone for _ in range(2)]
    counts = [len(encode(model, text)) for text in TEXTS]
    usage = answer["usage"]
    assert usage["prompt_tokens"] == sum(counts)
    assert usage["completion_tokens"] == written
    assert usage["total_tokens"] == sum(counts) + written
    ids = ask(client, [encode(model, text) for text in TEXTS])
    assert [choice["text"] for choice in ids["choices"]] == alone
    assert ids["usage"]["prompt_tokens"] == sum(counts)
    assert ask(client, encode(model, TEXTS[0]))["choices"][0]["text"] == alone[0]
    chunks, choices = stream(client, TEXTS, n=2, stream_options={"include_usage": True})
    assert [choice["text"] for choice in choices] == [text for text in alone for _ in range(2)]
    assert all(len(choice["reasons"]) == 1 for choice in choices)
    assert [chunks[-1]["usage"][name] for name in COUNTS] == [usage[name] for name in COUNTS]


def test_more_choices_than_replies_at_once(client):
    answer = ask(client, ["1", "2"], n=10, max_tokens=2, temperature=1.0, seed=3)
    assert [choice["index"] for choice in answer["choices"]] == list(range(20))
    assert answer["usage"]["completion_tokens"] == 40


def test_an_echo_has_the_prompts_log_probabilities(client, model):
    text = TEXTS[0]
    ids = model.backend.encode((text,))
    events = list(model.complete(text, prompt_logprobs=True, logprobs=True, top_logprobs=2, max_tokens=2))
    wanted, stop = Reply.from_events(events), events[-1].stop_token
    answer = ask(client, text, echo=True, logprobs=2, max_tokens=2)["choices"][0]
    found = answer["logprobs"]
    tokens = (*wanted.prompt_logprobs, *wanted.logprobs, *((stop,) if stop else ()))
    assert answer["text"] == text + wanted.text
    assert "".join(found["tokens"]) == answer["text"] + (stop.text if stop else "")
    assert found["token_logprobs"] == pytest.approx([token.logprob for token in tokens], abs=1e-3)
    assert found["text_offset"] == [len("".join(found["tokens"][:i])) for i in range(len(tokens))]
    for top, token, logprob in zip(found["top_logprobs"], tokens, found["token_logprobs"], strict=True):
        assert set(top) == {other.text for other in (*token.top, token)}
        assert max(top.values()) >= logprob
    given = ask(client, ids, echo=True, logprobs=1, max_tokens=0)
    (choice,) = given["choices"]
    assert (choice["text"], choice["finish_reason"]) == (text, "length")
    assert choice["logprobs"]["token_logprobs"][0] is choice["logprobs"]["top_logprobs"][0] is None
    assert all(logprob <= 0 for logprob in choice["logprobs"]["token_logprobs"][1:])
    assert [given["usage"][name] for name in COUNTS] == [len(ids), 0, len(ids)]
    for prompt in (text, ids):
        whole = ask(client, [prompt] * 2, echo=True, logprobs=1)
        _, choices = stream(client, [prompt] * 2, echo=True, logprobs=1)
        for one, other in zip(choices, whole["choices"], strict=True):
            assert one["text"] == other["text"]
            assert one["logprobs"] == other["logprobs"]


def test_an_echo_without_a_token_more(client, model):
    for prompt in (TEXTS[2], encode(model, TEXTS[2])):
        answer = ask(client, prompt, echo=True, max_tokens=0)
        assert answer["choices"][0]["text"].endswith(TEXTS[2])
        assert answer["usage"]["prompt_tokens"] == len(encode(model, TEXTS[2]))
        _, choices = stream(client, prompt, echo=True, max_tokens=0)
        assert choices[0]["text"] == answer["choices"][0]["text"]


def test_a_stop_token_has_its_log_probability_too(client, model):
    """lm-evaluation-harness drops the last token, which it asked for in addition."""
    question = model.backend.encode(model.prompt("Who are you?"))
    stops = {model.source.manifest.special_tokens[name] for name in model.stop_tokens}
    for logprobs in (0, 1):
        asked = {"max_tokens": 60, "logprobs": logprobs, "return_token_ids": True}
        whole = ask(client, question, **asked)
        (choice,) = whole["choices"]
        assert choice["finish_reason"] == "stop"
        assert choice["token_ids"][-1] in stops
        tokens = choice["logprobs"]["tokens"]
        assert len(tokens) == len(choice["token_ids"]) == whole["usage"]["completion_tokens"]
        assert "".join(tokens[:-1]) == choice["text"]
        _, (streamed,) = stream(client, question, **asked)
        assert (streamed["token_ids"], streamed["logprobs"]["tokens"]) == (choice["token_ids"], tokens)


def test_a_prompts_tokens_and_the_version(client, model):
    for special, ids in ((True, encode(model, TEXTS[2])), (False, model.backend.encode((TEXTS[2],)))):
        found = client.post("/tokenize", json={"prompt": TEXTS[2], "add_special_tokens": special}).json()
        length = model.source.manifest.context_length
        assert found == {"tokens": ids, "count": len(ids), "max_model_len": length}
    assert client.get("/version").json() == {"version": edge.__version__}


def test_fields_of_vllm(client, model):
    ids = encode(model, TEXTS[1])
    plain = ask(client, TEXTS[1], return_token_ids=True)["choices"][0]
    assert plain["prompt_token_ids"] == ids
    assert (
        model.backend.encode((plain["text"],))
        == plain["token_ids"][: len(plain["token_ids"]) - (plain["finish_reason"] == "stop")]
    )
    assert "token_ids" not in ask(client, TEXTS[1])["choices"][0]
    named = ask(client, TEXTS[1], logprobs=1, return_tokens_as_token_ids=True)["choices"][0]["logprobs"]
    assert named["tokens"] == [f"token_id:{id}" for id in plain["token_ids"]]
    assert set(named["top_logprobs"][0]) == {named["tokens"][0]}
    chunks, (choice,) = stream(client, TEXTS[1], return_token_ids=True)
    assert choice["token_ids"] == plain["token_ids"]
    assert chunks[0]["choices"][0]["prompt_token_ids"] == ids
    counted = {"include_usage": True, "continuous_usage_stats": True}
    chunks, _ = stream(client, TEXTS[1], stream_options=counted)
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [1, 2, 3, 4, 5, 6, 6, 6][-len(chunks) :]
    assert {chunk["usage"]["prompt_tokens"] for chunk in chunks} == {len(ids)}
    stopped = ask(client, TEXTS[1], stop_token_ids=plain["token_ids"][2:3])["choices"][0]
    assert stopped["finish_reason"] == "stop"
    assert plain["text"].startswith(stopped["text"])
    assert len(stopped["text"]) < len(plain["text"])
    bare = ask(client, TEXTS[1], add_special_tokens=False)
    assert bare["usage"]["prompt_tokens"] == len(ids) - len(model.backend.encode((model.family.prefix,)))
    question = model.backend.encode(model.prompt("Who are you?"))
    assert ask(client, question, max_tokens=60)["choices"][0]["finish_reason"] == "stop"
    assert ask(client, question, max_tokens=60, ignore_eos=True)["choices"][0]["finish_reason"] == "length"


REJECTED = {
    "an unknown token": ({"prompt": [99999]}, "there is no token 99999"),
    "an unknown bias": ({"prompt": "a", "logit_bias": {"99999": 1}}, "there is no token 99999"),
    "nothing": ({"prompt": "", "add_special_tokens": False}, "the prompt is empty"),
    "ids and texts": ({"prompt": [1, "a"]}, "prompt"),
    "a long prompt of ids": ({"prompt": [1] * 3000}, "maximum context length|tokens"),
    "a suffix": ({"prompt": "a", "suffix": "b"}, "suffix is not supported: a completion goes at the end"),
}


@pytest.mark.parametrize(("body", "words"), REJECTED.values(), ids=REJECTED.keys())
def test_what_cannot_be_continued_is_rejected(client, body, words):
    refused = client.post(PATH, json=body)
    assert refused.status_code == 400
    assert re.search(words, refused.json()["error"]["message"])


def test_settings_that_need_logits(client):
    (chosen,) = ask(client, "[1, 2, 3, ", max_tokens=1, logprobs=2, return_token_ids=True)["choices"]
    banned = ask(client, "[1, 2, 3, ", max_tokens=1, logit_bias={str(chosen["token_ids"][0]): -100})["choices"][0]
    assert banned["text"] != chosen["text"]
    plain, penalised = (
        ask(client, "[1, 2, 3, ", max_tokens=30, frequency_penalty=penalty)["choices"][0]["text"] for penalty in (0, 2)
    )
    assert plain != penalised
    chat = {"messages": [{"role": "user", "content": "Who are you?"}], "logprobs": True, "top_logprobs": 3}
    answer = client.post("/v1/chat/completions", json=chat | {"max_tokens": 4}).json()["choices"][0]
    for token in answer["logprobs"]["content"]:
        assert len(token["top_logprobs"]) == 3
        assert token["top_logprobs"][0]["logprob"] == token["logprob"]
    assert "".join(token["token"] for token in answer["logprobs"]["content"]) == answer["message"]["content"]
