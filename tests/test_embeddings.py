"""Embedding and reranking models: adopted, served beside a chat model, and rejected where they do not belong."""

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
pytest.importorskip("transformers")
httpx2 = pytest.importorskip("httpx2")

import edge  # noqa: E402
from edge.server.pool.auxiliary import encoders as pool_encoders  # noqa: E402
from runtime.folder.model_folder import write_manifest  # noqa: E402
from runtime.retrieval.embedding_model import EmbeddingModel  # noqa: E402
from runtime.retrieval.rerank_model import RerankModel  # noqa: E402
from runtime.retrieval.text_tokens import batches  # noqa: E402

from .encoders import HIDDEN, table, token, write_embedding_model, write_rerank_model  # noqa: E402
from .serving import serving_ours  # noqa: E402
from .test_server import until  # noqa: E402

SHIPS = ["[CLS]", "the", "ships", "[SEP]"]


def ids(words):
    return [{"[CLS]": 2, "[SEP]": 3}.get(word) or token(word) for word in words]


def mean(words):
    vector = table()[ids(words)].mean(0)
    return vector / np.linalg.norm(vector)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """An embedding and a reranking model, adopted."""
    place = tmp_path_factory.mktemp("encoders")
    embedding = edge.adopt(write_embedding_model(place / "exported"), place / "tiny-embed")
    return embedding, edge.adopt(write_rerank_model(place / "tiny-rerank"))


@pytest.fixture(scope="module")
def served(models, demo_folder):
    with (
        serving_ours(demo_folder.path, *(model.path for model in models)) as (url, dispatcher),
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        yield client, dispatcher


@pytest.fixture
def client(served):
    return served[0]


def post(client, path, body, status=200):
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def vectors(reply):
    return np.array([each["embedding"] for each in reply["data"]])


def test_the_manifest_says_what_a_model_does(models):
    embedding, rerank = models
    assert (embedding.manifest.task, rerank.manifest.task) == ("embedding", "rerank")
    assert (embedding.manifest.embedding.pooling, embedding.manifest.embedding.normalize) == ("mean", True)
    assert (embedding.context_length, embedding.manifest.sizes.hidden) == (16, HIDDEN)
    assert edge.ModelFolder.open(embedding.path).manifest == embedding.manifest
    with pytest.raises(edge.ModelFolderError, match="embedding model"):
        edge.Model(embedding.path, device="CPU")
    with pytest.raises(edge.ModelFolderError, match="not an embedding model"):
        EmbeddingModel(rerank)


@pytest.mark.parametrize(
    ("pooling", "wanted"),
    [
        ("cls_token", table()[ids(["[CLS]"])[0]] + table()[ids(SHIPS)].mean(0)),
        ("lasttoken", table()[ids(["[SEP]"])[0]] + table()[ids(SHIPS)].mean(0)),
        ("mean_tokens", 2 * table()[ids(SHIPS)].mean(0)),
    ],
)
def test_pooling_is_the_models_own(tmp_path, pooling, wanted):
    folder = edge.adopt(write_embedding_model(tmp_path / "tiny", pooling=pooling, normalize=False))
    model = EmbeddingModel(folder)
    texts = ["the ships", "the ships lie in the harbour ."]
    found = model.embed([model.encode(text) for text in texts])
    np.testing.assert_allclose(found[0], wanted, atol=1e-6)


def test_a_graph_may_pool_itself(tmp_path):
    folder = edge.adopt(write_embedding_model(tmp_path / "tiny", pools=True))
    assert folder.manifest.embedding.pooling == "graph"
    model = EmbeddingModel(folder)
    found = model.embed([model.encode(text) for text in ("the ships", "the ships lie in the harbour .")])
    np.testing.assert_allclose(found[0], table()[ids(SHIPS)].mean(0), atol=1e-6)


def test_a_prompt_goes_before_every_text(tmp_path):
    exported = write_embedding_model(tmp_path / "tiny")
    prompts = {"prompts": {"query": "where is "}, "default_prompt_name": "query"}
    (exported / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    model = EmbeddingModel(edge.adopt(exported))
    assert model.encode("the ship") == ids(["[CLS]", "where", "is", "the", "ship", "[SEP]"])


def test_a_pair_has_the_separators_of_its_model(tmp_path):
    for kind, separators in (("bert", 1), ("xlm-roberta", 2)):
        model = RerankModel(edge.adopt(write_rerank_model(tmp_path / kind, model_type=kind)))
        together, first = model.encode("the sun", "a ship")
        middle = ids(["[SEP]"]) * separators
        assert together == ids(["[CLS]", "the", "sun"]) + middle + ids(["a", "ship", "[SEP]"])
        assert together[:first] == ids(["[CLS]", "the", "sun", "[SEP]"])


def test_what_cannot_be_adopted_is_named(tmp_path):
    folder = write_embedding_model(tmp_path / "tiny")
    (folder / "1_Pooling" / "config.json").unlink()
    with pytest.raises(edge.CheckpointError, match="how the vectors of its tokens become one"):
        edge.adopt(folder)
    (folder / "openvino_tokenizer.xml").unlink()
    with pytest.raises(edge.ConversionError, match=r"no openvino_tokenizer\.xml"):
        edge.adopt(folder)
    assert not (folder / "edge.json").exists()


def test_texts_and_token_ids_have_vectors(client, models):
    name = models[0].path.name
    for given, wanted in (
        ("the ships", [SHIPS]),
        (["the ships"], [SHIPS]),
        (["The Ships", "a ship lies in the harbour ."], [SHIPS, None]),
        (ids(SHIPS), [SHIPS]),
        ([ids(SHIPS), ids(["ship"])], [SHIPS, ["ship"]]),
    ):
        reply = post(client, "/v1/embeddings", {"model": name, "input": given})
        assert (reply["object"], reply["model"]) == ("list", name)
        assert [each["index"] for each in reply["data"]] == list(range(len(wanted)))
        for found, words in zip(vectors(reply), wanted, strict=True):
            assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
            if words is not None:
                np.testing.assert_allclose(found, mean(words), atol=1e-6)
    usage = reply["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (5, 0, 5)
    encoded = post(client, "/v1/embeddings", {"input": "the ships", "encoding_format": "base64"})
    decoded = np.frombuffer(base64.b64decode(encoded["data"][0]["embedding"]), "<f4")
    np.testing.assert_allclose(decoded, mean(SHIPS), atol=1e-6)


def test_a_vector_does_not_depend_on_its_batch(client):
    texts = ["the ships " * (1 + index % 6) for index in range(100)]
    together = vectors(post(client, "/v1/embeddings", {"input": texts}))
    for index in (0, 5, 99):
        (alone,) = vectors(post(client, "/v1/embeddings", {"input": texts[index]}))
        np.testing.assert_allclose(together[index], alone, atol=1e-6)


@pytest.mark.parametrize(
    ("lengths", "wanted"),
    [([], []), ([3, 9, 3], [[0, 2], [1]]), ([1, 1, 1], [[0, 1], [2]]), ([20], [[0]])],
)
def test_batches_are_bounded(lengths, wanted):
    assert batches(lengths, texts=2, tokens=10) == wanted


def test_documents_are_ranked(client, models):
    documents = ["the sun .", {"text": "a ship , a ship"}, "rain", "the ship ."]
    body = {"model": models[1].path.name, "query": "where is the ship ?", "documents": documents}
    reply = post(client, "/v1/rerank", body)
    assert [result["index"] for result in reply["results"]][:2] == [1, 3]
    scores = [result["relevance_score"] for result in reply["results"]]
    assert scores == pytest.approx([1 / (1 + np.exp(-count)) for count in (2, 1, 0, 0)], abs=1e-5)
    assert "document" not in reply["results"][0]
    best = post(client, "/rerank", body | {"top_n": 1, "return_documents": True})["results"]
    assert [(result["index"], result["document"]) for result in best] == [(1, {"text": "a ship , a ship"})]
    assert reply["usage"]["total_tokens"] > 20


def test_a_model_is_asked_only_what_it_does(client, models, demo_folder):
    embedding, rerank, chat = models[0].path.name, models[1].path.name, demo_folder.path.name
    ask = {"messages": [{"role": "user", "content": "Hi"}], "stream": False}
    for path, body, model in (
        ("/v1/chat/completions", ask, embedding),
        ("/v1/responses", {"input": "Hi"}, embedding),
        ("/v1/completions", {"prompt": "Hi"}, rerank),
        ("/v1/embeddings", {"input": "Hi"}, rerank),
        ("/v1/embeddings", {"input": "Hi"}, chat),
        ("/v1/rerank", {"query": "Hi", "documents": ["Ho"]}, embedding),
        ("/api/chat", ask, embedding),
        ("/api/embed", {"input": "Hi"}, chat),
    ):
        refused = post(client, path, body | {"model": model}, 400)["error"]
        assert model in (refused if isinstance(refused, str) else refused["message"])
    listed = [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert listed == [chat, embedding, rerank]
    assert client.get(f"/v1/models/{embedding}").json()["max_model_len"] == 16
    post(client, "/v1/embeddings", {"model": "absent", "input": "Hi"}, 404)


def test_what_is_not_supported_is_rejected(client):
    for body, param in (
        ({"input": "ship " * 15}, "input[0]"),
        ({"input": ["a", "ship " * 500]}, "input[1]"),
        ({"input": [[1, 5000]]}, "input[0]"),
        ({"input": [-1]}, "input[0]"),
        ({"input": []}, "input"),
        ({"input": [[]]}, "input[0]"),
        ({"input": [["a"]]}, "input"),
        ({"input": "a", "dimensions": 4}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": ["a"] * 2049}, "input"),
    ):
        refused = post(client, "/v1/embeddings", body, 400)["error"]
        assert (refused["param"] or "").startswith(param), refused
    assert len(vectors(post(client, "/v1/embeddings", {"input": "a", "dimensions": HIDDEN}))[0]) == HIDDEN
    for body, param in (
        ({"query": "a", "documents": []}, "documents"),
        ({"query": "", "documents": ["a"]}, "query"),
        ({"query": "ship " * 8, "documents": ["a", "ship " * 8]}, "documents[1]"),
        ({"query": "a", "documents": ["a"], "top_n": 0}, "top_n"),
    ):
        assert post(client, "/v1/rerank", body, 400)["error"]["param"] == param


def test_shorter_vectors_where_the_model_was_trained_for_them(tmp_path):
    folder = edge.adopt(write_embedding_model(tmp_path / "tiny", matryoshka_dimensions=[4, 8]))
    with serving_ours(folder.path) as (url, _), httpx2.Client(base_url=url, timeout=60) as client:
        (found,) = vectors(post(client, "/v1/embeddings", {"input": "the ships", "dimensions": 4}))
        short = mean(SHIPS)[:4]
        np.testing.assert_allclose(found, short / np.linalg.norm(short), atol=1e-6)
        assert post(client, "/v1/embeddings", {"input": "a", "dimensions": 9}, 400)["error"]["param"] == "dimensions"
        assert client.get("/ready").status_code == 200
        ask = {"messages": [{"role": "user", "content": "Hi"}]}
        assert "tiny" in post(client, "/v1/chat/completions", ask, 400)["error"]["message"]


def test_ollamas_embeddings(client, models):
    name = f"{models[0].path.name}:latest"
    shown = post(client, "/api/show", {"model": name})
    assert (shown["capabilities"], shown["model_info"]["bert.embedding_length"]) == (["embedding"], HIDDEN)
    assert name in [model["model"] for model in client.get("/api/tags").json()["models"]]
    assert post(client, "/api/embed", {"model": name})["embeddings"] == []
    reply = post(client, "/api/embed", {"model": name, "input": ["the ships", "the ships " * 40]})
    np.testing.assert_allclose(reply["embeddings"][0], mean(SHIPS), atol=1e-6)
    assert (reply["model"], reply["prompt_eval_count"]) == (name, 4 + 16)
    assert reply["total_duration"] >= reply["load_duration"]
    refused = post(client, "/api/embed", {"model": name, "input": "the ships " * 40, "truncate": False}, 400)
    assert "16" in refused["error"]
    older = post(client, "/api/embeddings", {"model": name, "prompt": "the ships"})
    np.testing.assert_allclose(older["embedding"], mean(SHIPS), atol=1e-6)
    assert name in [model["name"] for model in client.get("/api/ps").json()["models"]]
    assert post(client, "/api/embed", {"model": "absent", "input": "a"}, 404)["error"].startswith("model 'absent' not")


def test_the_openai_client_reads_them(client, models):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{str(client.base_url).rstrip('/')}/v1", api_key="none", max_retries=0) as other:
        reply = other.embeddings.create(model=models[0].path.name, input=["the ships", "rain"])
    np.testing.assert_allclose(reply.data[0].embedding, mean(SHIPS), atol=1e-6)


@pytest.mark.slow
def test_a_large_request_delays_nobody(served, monkeypatch):
    client, _ = served
    texts = ["the ships lie in the harbour ."] * 2048
    with ThreadPoolExecutor(1) as pool:
        large = pool.submit(post, client, "/v1/embeddings", {"input": texts})
        waits = []
        while not large.done():
            start = time.perf_counter()
            assert httpx2.get(client.base_url.join("/health")).status_code == 200
            waits.append(time.perf_counter() - start)
    assert len(large.result()["data"]) == 2048
    assert sorted(waits)[len(waits) // 2] < 0.5
    monkeypatch.setattr(pool_encoders, "MAX_TOKENS", 100)
    assert post(client, "/v1/embeddings", {"input": texts}, 400)["error"]["code"] == "too_many"


def test_requests_take_turns(models, demo_folder):
    from edge.server.limits import Limits

    limits = Limits(waiting=1)
    with serving_ours(models[0].path, limits=limits) as (url, _), ThreadPoolExecutor(8) as pool:
        body = {"input": ["the ships lie in the harbour ."] * 1000}
        answers = pool.map(lambda _: httpx2.post(f"{url}/v1/embeddings", json=body, timeout=60).status_code, range(8))
        statuses = sorted(answers)
    assert (statuses[0], statuses[-1]) == (200, 429)


def test_a_damaged_task_is_named(models, tmp_path):
    folder = edge.adopt(write_embedding_model(tmp_path / "tiny"))
    broken = replace(folder.manifest, task="paint")
    write_manifest(folder.path, broken)
    with pytest.raises(edge.ModelFolderError, match="task"):
        edge.ModelFolder.open(folder.path)
    assert json.loads((folder.path / "edge.json").read_text())["task"] == "paint"


def test_one_that_nothing_uses_is_unloaded(models):
    with (
        serving_ours(models[0].path, idle_seconds=0.5) as (url, dispatcher),
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        (entry,) = dispatcher.pool.encoders.entries.values()
        first = client.post("/v1/embeddings", json={"input": "Hello"}).json()["data"]
        until(lambda: entry.model is None)
        assert client.post("/v1/embeddings", json={"input": "Hello"}).json()["data"] == first
        assert client.post("/api/embed", json={"input": "Hello", "keep_alive": -1}).status_code == 200
        time.sleep(1.0)
        assert entry.model is not None
