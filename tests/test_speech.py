"""Speech models: adopted, run by OpenVINO GenAI's own pipelines, cancelled, killed, and fed recordings from anyone."""

import io
import struct
import time
from threading import Timer

import numpy as np
import pytest

pytest.importorskip("transformers")
soundfile = pytest.importorskip("soundfile")

import edge  # noqa: E402
from edge.cli import main  # noqa: E402
from runtime.cancellation import Cancellation  # noqa: E402
from runtime.folder.model_folder import ModelFolder  # noqa: E402
from runtime.speech.audio import MAX_BYTES, MAX_SECONDS, decode  # noqa: E402
from runtime.speech.requests import TextDelta, TranscriptionRequest  # noqa: E402
from runtime.speech.sentences import split_sentences  # noqa: E402

from .speech_models import FRAMES, HEARD, HOP, write_recognition_model, write_speech_model  # noqa: E402


def tone(seconds=1.0, rate=16_000, channels=1, name="WAV", subtype=None):
    """The content of a file with a tone."""
    samples = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)
    out = io.BytesIO()
    soundfile.write(out, np.repeat(samples[:, None], channels, 1), rate, format=name, subtype=subtype)
    return out.getvalue()


def wav(*, channels=1, rate=16_000, bits=16, kind=1, data=b"\0" * 32_000, size=None):
    """A WAV file whose header says what it likes."""
    frame = channels * bits // 8
    head = struct.pack("<HHIIHH", kind, channels, rate, rate * frame & 0xFFFFFFFF, frame & 0xFFFF, bits)
    size = len(data) if size is None else size
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(body) & 0xFFFFFFFF) + body


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("speech")
    whisper = edge.adopt(write_recognition_model(place / "exported"), place / "whisper")
    return whisper, edge.adopt(write_speech_model(place / "speecht5"))


@pytest.fixture(scope="module")
def transcriber(folders):
    with edge.Transcriber(folders[0]) as found:
        yield found


@pytest.fixture(scope="module")
def synthesizer(folders):
    with edge.Synthesizer(folders[1].path) as found:
        yield found


def test_the_manifest_says_what_a_model_does(folders):
    assert [folder.manifest.task for folder in folders] == ["transcription", "speech"]
    assert ModelFolder.open(folders[0].path).manifest == folders[0].manifest
    with pytest.raises(edge.ModelFolderError, match="not a speech recognition model"):
        edge.Transcriber(folders[1])
    with pytest.raises(edge.ModelFolderError, match="not a text-to-speech model"):
        edge.Synthesizer(folders[0])
    with pytest.raises(edge.ModelFolderError, match="is a speech recognition model: it does not chat") as caught:
        edge.Chat(folders[0].path)
    assert "edge.Transcriber" in caught.value.hint


def test_commands_name_what_runs_a_speech_model(folders, capsys):
    for folder, runs in zip(folders, ("edge.Transcriber", "edge.Synthesizer"), strict=True):
        assert main(["complete", str(folder.path), "--prompt", "Hi"]) == 1
        printed = capsys.readouterr().err
        assert "it does not chat" in printed
        assert runs in printed


def test_doctor_names_the_kind(folders, capsys):
    assert main(["doctor", str(folders[1].path)]) == 0
    assert "speecht5 is a text-to-speech model: `edge serve`" in capsys.readouterr().out


def test_inspect_names_the_task(folders, capsys):
    assert main(["inspect", str(folders[0].path)]) == 0
    assert "transcription" in capsys.readouterr().out


def test_an_export_is_told_from_a_model_folder(tmp_path):
    folder = write_speech_model(tmp_path / "export")
    with pytest.raises(edge.ModelFolderError, match="OpenVINO folder of another program") as caught:
        edge.Chat(folder)
    assert "edge adopt" in caught.value.hint


@pytest.mark.parametrize(
    ("missing", "what"),
    [("openvino_detokenizer.bin", "has no openvino_detokenizer.bin"), ("preprocessor_config.json", "has no preproc")],
)
def test_an_incomplete_export_is_rejected(tmp_path, missing, what):
    folder = write_recognition_model(tmp_path / "export")
    (folder / missing).unlink()
    with pytest.raises(edge.ConversionError, match=what):
        edge.adopt(folder)


def test_another_kind_of_speech_model_is_rejected(tmp_path):
    folder = write_speech_model(tmp_path / "export", architectures=["MoonshineForConditionalGeneration"])
    with pytest.raises(edge.ConversionError, match="Moonshine") as caught:
        edge.adopt(folder)
    assert "SpeechT5ForTextToSpeech" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "subtype", "rate", "channels"),
    [
        ("WAV", "PCM_16", 16_000, 1),
        ("WAV", "FLOAT", 48_000, 2),
        ("WAVEX", "PCM_24", 44_100, 6),
        ("FLAC", "PCM_16", 8_000, 1),
        ("OGG", "OPUS", 48_000, 2),
        ("OGG", "VORBIS", 22_050, 1),
        ("MP3", "MPEG_LAYER_III", 44_100, 2),
    ],
)
def test_recordings_become_16_khz(transcriber, name, subtype, rate, channels):
    content = tone(1.5, rate, channels, name, subtype)
    samples = decode(content)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(24_000, abs=1600)
    assert np.abs(samples[2000:20_000]).max() == pytest.approx(0.3, abs=0.05)
    peak = np.abs(np.fft.rfft(samples[4000:20_000])).argmax()
    assert peak == pytest.approx(440, abs=2)
    assert transcriber.transcribe(content).text == HEARD


def test_a_transcript_has_segments(transcriber):
    found = transcriber.transcribe(tone(2), language="de", prompt="ships", translate=True, temperature=0.01)
    assert (found.text, found.duration) == (HEARD, 2.0)
    (segment,) = found.segments
    assert (segment.start, segment.text.strip()) == (0.0, HEARD)
    assert 0.9 < segment.end < 1.1


def test_silence_has_no_words(transcriber):
    assert transcriber.transcribe(wav()).text == ""


def test_a_long_recording_has_a_segment_for_each_window(transcriber):
    found = transcriber.transcribe(tone(70))
    assert found.text.count(HEARD) == len(found.segments) == 3
    assert [round(segment.start) for segment in found.segments] == [0, 30, 60]


HOSTILE = {
    "nothing": (b"", "empty"),
    "text": (b"RIFF or not", "no recording"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "no recording"),
    "half a header": (tone()[:20], "damaged"),
    "no samples": (wav(data=b""), "no sound"),
    "no channels": (wav(channels=0), "damaged|0 channels"),
    "many channels": (wav(channels=500, data=b"\0" * 100_000), "channels"),
    "no rate": (wav(rate=0), "sample rate|damaged"),
    "a rate of 4 GHz": (wav(rate=0xFFFFFFFF), "sample rate|damaged"),
    "NaN": (wav(bits=32, kind=3, data=struct.pack("<f", float("nan")) * 16_000), "NaN"),
    "infinity": (wav(bits=32, kind=3, data=struct.pack("<f", float("inf")) * 16_000), "NaN"),
    "too short": (wav(data=b"\0" * 200), "needs 0.1"),
    "too long": (wav(rate=4000, bits=8, data=b"\x80" * (4000 * (MAX_SECONDS + 1))), "longer than 30 minutes"),
    "too large": (b"RIFF" + b"\0" * MAX_BYTES, "may have 25,000,000"),
    "FLAC of nothing": (b"fLaC" + b"\2" * 500, "damaged"),
    "Ogg of nothing": (b"OggS" + b"\1" * 500, "damaged"),
    "MP3 of nothing": (b"ID3" + b"\0" * 500, "damaged|no sound"),
    "another container": (b"FORM\0\0\0\0AIFF" + b"\0" * 100, "no recording"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_recordings_are_refused_in_a_line(transcriber, name):
    content, what = HOSTILE[name]
    with pytest.raises(edge.RequestError, match=what) as caught:
        transcriber.transcribe(content)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_a_header_that_promises_more_than_there_is(transcriber):
    assert transcriber.transcribe(wav(data=b"\0" * 16_000, size=0x7FFFFFFF)).duration == 0.5


def test_a_bomb_is_not_decoded(transcriber):
    """Hours of silence in a few bytes: FLAC, whose header says how long it is, and one whose header does not."""
    samples = np.zeros(16_000 * (MAX_SECONDS + 60), np.int16)
    out = io.BytesIO()
    soundfile.write(out, samples, 16_000, format="FLAC")
    content = bytearray(out.getvalue())
    assert len(content) < 2**20
    unknown = content.copy()
    unknown[21] &= 0xF0
    unknown[22:26] = bytes(4)
    for each in (content, unknown):
        with pytest.raises(edge.RequestError, match=r"30 minutes|no sound|damaged"):
            transcriber.transcribe(bytes(each))


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"language": "xx"}, "does not know the language 'xx'"),
        ({"prompt": "ships " * 300}, "prompt has"),
        ({"temperature": 2}, "temperature"),
    ],
)
def test_settings_that_the_model_does_not_have(transcriber, settings, what):
    with pytest.raises(edge.RequestError, match=what):
        transcriber.transcribe(tone(), **settings)


def test_an_english_model(tmp_path):
    folder = edge.adopt(write_recognition_model(tmp_path / "export", multilingual=False))
    with edge.Transcriber(folder) as transcriber:
        with pytest.raises(edge.RequestError, match="does not translate"):
            transcriber.transcribe(tone(), translate=True)
        with pytest.raises(edge.RequestError, match="English only"):
            transcriber.transcribe(tone(), language="zh")
        assert transcriber.transcribe(tone(), language="en").text in ("", HEARD)


def test_speech_is_as_long_as_its_text(synthesizer):
    import wave

    lengths = []
    for text in ("ships", "ships ships ships"):
        with wave.open(io.BytesIO(synthesizer.speak(text))) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
            lengths.append(file.getnframes() - int(0.15 * 16_000))
    assert lengths[0] % (HOP * FRAMES) == 0
    assert lengths[1] > lengths[0] > 0


@pytest.mark.parametrize(("name", "start"), [("flac", b"fLaC"), ("mp3", b"\xff"), ("opus", b"OggS"), ("wav", b"RIFF")])
def test_formats_of_speech(synthesizer, transcriber, name, start):
    content = synthesizer.speak("The ships lie in the harbour. Where?", audio_format=name)
    assert content.startswith(start)
    assert transcriber.transcribe(content).text == HEARD


def test_pcm_is_at_24_khz(synthesizer):
    import wave

    with wave.open(io.BytesIO(synthesizer.speak("ships"))) as file:
        seconds = file.getnframes() / 16_000
    assert len(synthesizer.speak("ships", audio_format="pcm")) / 2 / 24_000 == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize(
    ("text", "settings", "what"),
    [
        ("", {}, "nothing to speak"),
        ("?! …", {}, "nothing to speak"),
        ("a" * 5000, {}, "5,000 characters"),
        ("ships", {"voice": "alloy"}, "no voice 'alloy'"),
        ("ships", {"voice": "../voice"}, "no voice"),
        ("ships", {"audio_format": "aac"}, "'aac' is not written"),
    ],
)
def test_speech_that_is_refused(synthesizer, text, settings, what):
    with pytest.raises(edge.RequestError, match=what):
        synthesizer.speak(text, **settings)


def test_voices_of_a_folder(tmp_path):
    folder = write_speech_model(tmp_path / "export")
    (folder / "voice_anna.bin").write_bytes(np.full(512, 0.4, "<f4").tobytes())
    with edge.Synthesizer(edge.adopt(folder)) as synthesizer:
        assert synthesizer.voices == ("default", "anna")
        assert synthesizer.speak("ships", voice="anna") != synthesizer.speak("ships")
    damaged = write_speech_model(tmp_path / "damaged")
    (damaged / "voice_anna.bin").write_bytes(b"\0" * 100)
    with pytest.raises(edge.ModelFolderError, match="512 float32"):
        edge.adopt(damaged)


def test_a_cancelled_transcription_ends(transcriber):
    cancellation = Cancellation()
    Timer(0.3, cancellation.cancel).start()
    start = time.monotonic()
    with pytest.raises(edge.RequestError, match="cancelled"):
        transcriber.transcribe(tone(1700, 8000, name="FLAC"), cancellation=cancellation)
    assert time.monotonic() - start < 10
    assert transcriber.transcribe(tone()).text == HEARD


def test_text_comes_while_it_is_recognized(transcriber):
    parts = transcriber._process.run(TranscriptionRequest(tone(70)))
    assert isinstance(next(parts), TextDelta)
    parts.close()  # cancels the rest
    assert transcriber.transcribe(tone()).text == HEARD


def test_after_a_crash_the_next_request_starts_another_process(folders):
    with edge.Transcriber(folders[0]) as transcriber:
        parts = transcriber._process.run(TranscriptionRequest(tone(900, 8000)))
        next(parts)
        transcriber._process._child._process.kill()
        with pytest.raises(edge.BackendError, match="has died"):
            list(parts)
        assert transcriber.transcribe(tone()).text == HEARD


def test_a_damaged_model_is_no_crash(folders, tmp_path):
    folder = write_recognition_model(tmp_path / "export")
    (folder / "openvino_decoder_model.xml").write_text("<net/>")
    with pytest.raises(edge.ConversionError, match="does not run"):
        edge.adopt(folder)
    assert not (folder / "edge.json").exists()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One. Two? Three!", ["One.", "Two?", "Three!"]),
        ("One, two three four", ["One, two three", "four"]),
        ("你好。世界!", ["你好。", "世界!"]),
        ("a" * 40, ["a" * 16, "a" * 16, "a" * 8]),
        ("…\n\n— * —", []),
        ("Pi is 3.14.\nYes", ["Pi is 3.14.", "Yes"]),
    ],
)
def test_sentences(text, found):
    assert split_sentences(text, 16) == found
