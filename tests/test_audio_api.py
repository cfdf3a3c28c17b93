"""/v1/audio: the official `openai` client transcribes, translates and speaks, on a server with tiny speech models."""

import io
import re
import time
import wave
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
pytest.importorskip("transformers")
soundfile = pytest.importorskip("soundfile")
httpx2 = pytest.importorskip("httpx2")
openai = pytest.importorskip("openai")

import edge  # noqa: E402
from edge.cli import main  # noqa: E402
from edge.server.limits import Limits  # noqa: E402

from .serving import serving_ours  # noqa: E402
from .speech_models import HEARD, write_recognition_model, write_speech_model  # noqa: E402
from .test_server import until  # noqa: E402
from .test_speech import tone, wav  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the client's, of its translations
TRANSCRIBE, SPEAK = "/v1/audio/transcriptions", "/v1/audio/speech"


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """A speech recognition model and a text-to-speech model, adopted."""
    place = tmp_path_factory.mktemp("voices")
    whisper = edge.adopt(write_recognition_model(place / "exported"), place / "whisper")
    return whisper.path, edge.adopt(write_speech_model(place / "speecht5")).path


@pytest.fixture(scope="module")
def served(voices, demo_folder):
    with serving_ours(demo_folder.path, *voices, aliases={"whisper-1": "whisper"}) as (url, dispatcher):
        yield url, dispatcher


@pytest.fixture(scope="module")
def client(served):
    with openai.OpenAI(base_url=f"{served[0]}/v1", api_key="none", max_retries=0) as found:
        yield found.audio


@pytest.fixture(scope="module")
def http(served):
    with httpx2.Client(base_url=served[0], timeout=60) as found:
        yield found


def silence(seconds):
    """The content of a small file."""
    out = io.BytesIO()
    soundfile.write(out, np.zeros(seconds * 8000, np.int16), 8000, format="FLAC")
    return out.getvalue()


def post(http, path=TRANSCRIBE, audio=None, **fields):
    return http.post(path, files={"file": ("question.wav", audio or tone())}, data=fields)


def test_the_client_has_the_text_of_a_recording(client):
    found = client.transcriptions.create(file=("q.wav", tone(1.5)), model="whisper")
    assert (found.text, found.usage.type, found.usage.seconds) == (HEARD, "duration", 2)
    assert client.translations.create(file=("q.flac", tone(name="FLAC")), model="whisper-1").text == HEARD
    assert client.transcriptions.create(file=("q.wav", wav()), model="whisper").text == ""


def test_verbose_json_has_segments(client):
    found = client.transcriptions.create(
        file=tone(70), model="whisper", response_format="verbose_json", timestamp_granularities=["segment"],
        language="de", prompt="ships", temperature=0.01,
    )  # fmt: skip
    assert (found.language, found.duration, len(found.segments)) == ("german", 70.0, 3)
    assert [(one.id, one.start, one.seek) for one in found.segments] == [(0, 0.0, 0), (1, 30.0, 3000), (2, 60.0, 6000)]
    first = found.segments[0]
    assert first.text.strip() == HEARD
    assert len(first.tokens) >= 3
    assert (first.avg_logprob, first.no_speech_prob, first.temperature) == (None, None, 0.01)
    assert client.transcriptions.create(file=tone(), model="whisper", response_format="verbose_json").language == (
        "english"
    )
    translated = client.translations.create(file=tone(), model="whisper", response_format="verbose_json")
    assert (translated.language, translated.text) == ("english", HEARD)


def test_text_and_subtitles(client):
    def create(kind):
        return client.transcriptions.create(file=tone(40), model="whisper", response_format=kind)

    assert create("text") == f"{HEARD} {HEARD}\n"
    cue = rf"\d\n00:00:(00|30)[,.]000 --> 00:00:(00|30)[,.]9\d\d\n{HEARD}\n\n"
    assert re.fullmatch(rf"({cue}){{2}}", create("srt"))
    assert re.fullmatch(rf"WEBVTT\n\n({cue[4:]}){{2}}", create("vtt"))


def test_the_text_is_streamed(client):
    events = list(client.transcriptions.create(file=tone(40), model="whisper", stream=True))
    assert {event.type for event in events[:-1]} == {"transcript.text.delta"}
    assert len(events) > 2
    assert (events[-1].type, events[-1].text) == ("transcript.text.done", f"{HEARD} {HEARD}")
    assert "".join(event.delta for event in events[:-1]) == events[-1].text
    with pytest.raises(openai.BadRequestError, match=r"damaged|no sound"):
        client.transcriptions.create(file=b"fLaC" + b"\2" * 500, model="whisper", stream=True)


@pytest.mark.parametrize(
    ("fields", "param", "what"),
    [
        ({"model": "nothing"}, "model", "no model 'nothing'"),
        ({"model": "speecht5"}, "model", "is a text-to-speech model, not a speech recognition model"),
        ({"response_format": "diarized_json"}, "response_format", "verbose_json"),
        ({"timestamp_granularities[]": "word", "response_format": "verbose_json"}, "timestamp_granularities", "words"),
        ({"timestamp_granularities[]": "segment"}, "timestamp_granularities", "needs response_format"),
        ({"timestamp_granularities": "segment"}, "timestamp_granularities", "needs response_format"),
        ({"stream": "true", "response_format": "srt"}, "stream", "stream has no srt"),
        ({"temperature": "2"}, "temperature", "less than or equal to 1"),
        ({"temperature": "warm"}, "temperature", "number"),
        ({"language": "xx"}, None, "does not know the language 'xx'"),
        ({"prompt": "ships " * 300}, None, "prompt has"),
        ({"include[]": "logprobs"}, "include", "not supported"),
        ({"chunking_strategy": "auto"}, "chunking_strategy", "not supported"),
        ({"known_speaker_names[]": "Ann"}, "known_speaker_names", "not supported"),
        ({"prompt": "x" * 70_000}, None, "body is not a form"),
    ],
)
def test_what_is_not_supported_is_rejected_by_name(http, fields, param, what):
    answer = post(http, **fields)
    error = answer.json()["error"]
    assert answer.status_code == (404 if "no model" in what else 400), error
    assert error["param"] == param
    assert what in error["message"]


def test_what_is_no_recording_is_rejected(http, served):
    for audio, what in ((b"\x89PNG" + b"\0" * 50, "no recording"), (tone()[:20], "damaged"), (wav(data=b""), "sound")):
        answer = post(http, audio=audio)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        assert what in answer.json()["error"]["message"]
    assert http.post(TRANSCRIBE, json={"file": "x"}).status_code == 400
    assert http.post(TRANSCRIBE, files={"sound": b"x"}).json()["error"]["param"] == "file"
    assert http.post(TRANSCRIBE, data={"file": "x"}, files={"x": b""}).json()["error"]["param"] == "file"
    assert post(http, audio=b"\0" * (26 * 10**6)).status_code == 413
    assert post(http, audio=wav(data=b"\0" * 10 * 10**6)).status_code == 200  # more than other bodies may have
    assert http.post("/v1/embeddings", content=b"0" * 10 * 10**6).status_code == 413


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [("mp3", "mpeg"), ("opus", "ogg"), ("flac", "flac"), ("wav", "wav"), ("pcm", "pcm")],
)
def test_the_client_has_speech(client, kind, media_type):
    found = client.speech.create(
        input="Where do the ships lie?", model="speecht5", voice="default", response_format=kind
    )
    assert found.response.headers["content-type"] == f"audio/{media_type}"
    content = found.read()
    if kind == "pcm":
        content = wav(rate=24_000, data=content)
    assert client.transcriptions.create(file=content, model="whisper").text == HEARD


def test_a_file_of_speech(client, tmp_path):
    with client.speech.with_streaming_response.create(
        input="ships", model="speecht5", voice={"id": "default"}, response_format="wav"
    ) as found:
        found.stream_to_file(tmp_path / "speech.wav")
    with wave.open(str(tmp_path / "speech.wav")) as file:
        assert file.getframerate() == 16_000
    assert client.speech.create(input="ships", model="speecht5", voice="default").read()[:1] == b"\xff"  # MP3


@pytest.mark.parametrize(
    ("fields", "param", "what"),
    [
        ({"voice": "alloy"}, None, "there is no voice 'alloy'; the voices are default"),
        ({"response_format": "aac"}, "response_format", "'wav'"),
        ({"speed": 1.5}, "speed", "one speed"),
        ({"speed": 9}, "speed", "less than"),
        ({"instructions": "Whisper."}, "instructions", "not supported"),
        ({"stream_format": "sse"}, "stream_format", "use audio"),
        ({"input": ""}, "input", "at least 1"),
        ({"input": "a" * 5000}, "input", "4096"),
        ({"input": "…"}, None, "nothing to speak"),
        ({"model": "whisper"}, "model", "not a text-to-speech model: it answers /v1/audio/transcriptions"),
        ({"model": "demo"}, "model", "is a chat model, not a text-to-speech model"),
    ],
)
def test_speech_that_is_rejected(http, served, fields, param, what):
    if fields.get("model") == "demo":
        fields = {"model": served[1].pool.find(None).name}
    answer = http.post(SPEAK, json={"input": "ships", "voice": "default"} | fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert what in answer.json()["error"]["message"]
    assert http.post(SPEAK, json={"input": "ships", "speed": 1, "instructions": "", "model": None}).status_code == 200


def test_models_are_listed_and_measured(http, served):
    listed = {one["id"]: one for one in http.get("/v1/models").json()["data"]}
    assert {"whisper", "speecht5", "whisper-1"} <= {*listed}
    assert listed["whisper-1"]["parent"] == "whisper"
    assert post(http).status_code == http.post(SPEAK, json={"input": "ships"}).status_code == 200
    assert http.get("/v1/models/whisper").json()["state"] == "loaded"
    assert {"whisper:latest", "speecht5:latest"} <= {one["name"] for one in http.get("/api/ps").json()["models"]}
    measured = http.get("/metrics").text
    for line in (
        'edge_audio_seconds_total{kind="heard",model="whisper"}',
        'edge_audio_seconds_total{kind="spoken",model="speecht5"}',
        'edge_model_loaded{model="whisper"} 1.0',
        f'edge_requests_total{{path="{TRANSCRIBE}",status="200"}}',
    ):
        assert line in measured
    paths = http.get("/openapi.json").json()["paths"]
    form = paths[TRANSCRIBE]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert {"file", "language", "response_format"} <= {*form["properties"]}
    assert "audio/mpeg" in paths[SPEAK]["post"]["responses"]["200"]["content"]
    chat = http.post("/v1/chat/completions", json={"model": "whisper", "messages": [{"role": "user", "content": "?"}]})
    assert "is a speech recognition model, not a chat model" in chat.json()["error"]["message"]


@pytest.mark.slow
def test_a_client_that_leaves_frees_the_model(http, served):
    (entry,) = [one for one in served[1].pool.speech.entries.values() if one.name == "whisper"]
    long = silence(1700)
    for fields in ({}, {"stream": "true"}):
        with pytest.raises(httpx2.TimeoutException):
            http.post(TRANSCRIBE, files={"file": long}, data=fields, timeout=0.5)
        until(lambda: entry.idle)
    with http.stream("POST", TRANSCRIBE, files={"file": long}, data={"stream": "true"}) as answer:
        next(answer.iter_lines())
    until(lambda: entry.idle)
    assert post(http).json()["text"] == HEARD


def test_a_crash_is_one_error(http, served):
    (entry,) = [one for one in served[1].pool.speech.entries.values() if one.name == "whisper"]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, http, audio=silence(1700))
        until(lambda: entry.queue.running)
        time.sleep(0.5)
        entry.model._child._process.kill()
        assert answer.result().status_code == 503
    assert answer.result().json()["error"]["code"] == "engine_failed"
    assert post(http).json()["text"] == HEARD


def test_a_queue_a_deadline_and_idle_models(voices):
    limits = Limits(waiting=1, request_seconds=1.5)
    long = silence(1700)
    with (
        serving_ours(*voices, limits=limits, idle_seconds=0.5) as (url, dispatcher),
        httpx2.Client(base_url=url, timeout=60) as http,
        ThreadPoolExecutor(3) as pool,
    ):
        assert http.get("/ready").status_code == 200
        answers = [answer.status_code for answer in pool.map(lambda _: post(http, audio=long), range(3))]
        assert sorted(answers) == [429, 503, 503]
        entries = dispatcher.pool.speech.entries.values()
        http.post(SPEAK, json={"input": "ships"})
        processes = [entry.model._child for entry in entries if entry.model]
        until(lambda: not any(entry.loaded for entry in entries))
        until(lambda: not any(process.running for process in processes))
        assert post(http).json()["text"] == HEARD


def test_a_server_without_such_models(demo_folder):
    with serving_ours(demo_folder.path) as (url, _), httpx2.Client(base_url=url, timeout=60) as http:
        for answer in (post(http), http.post(SPEAK, json={"input": "ships"})):
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
            assert "start `edge serve` with the folder of one, too" in answer.json()["error"]["message"]
        assert post(http, audio=wav(data=b"\0" * 10 * 10**6)).status_code == 413


def test_what_chats_names_where_speech_is_served(voices, capsys):
    assert main(["complete", str(voices[0]), "--prompt", "Hi"]) == 1
    assert TRANSCRIBE in capsys.readouterr().err
