"""SpeechT5 in OpenVINO GenAI: a text in, samples of speech out, sentence by sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..retrieval.encoder_graph import read_config
from ..system.native_effects import disable_alternate_signal_stack
from .requests import Speech, SpeechRequest
from .sentences import split_sentences
from .voices import read_voice

_MAX_CHARACTERS = 200  # of what is spoken at once: a token each, of the 600 that SpeechT5 reads
MAX_CHARACTERS = 4096  # of a request: OpenAI's limit
_PAUSE = 0.15  # seconds after a sentence


class SpeechT5Engine:
    """A loaded SpeechT5. It runs in the process that calls it."""

    def __init__(self, folder: Path, device: str) -> None:
        import openvino_genai as genai

        try:
            self._pipeline: Any = genai.Text2SpeechPipeline(folder, device)
        finally:
            disable_alternate_signal_stack()
        self._folder = folder
        limit = read_config(folder).get("max_text_positions")
        self._limit = min(limit, _MAX_CHARACTERS) if isinstance(limit, int) and limit > 0 else _MAX_CHARACTERS

    def run(self, request: SpeechRequest, send: Callable[[Any], None], cancelled: Callable[[], bool]) -> None:
        """Send the speech of each sentence. Raises RequestError."""
        import numpy as np
        import openvino as ov

        if (count := len(request.text)) > MAX_CHARACTERS:
            raise RequestError(f"the text has {count:,} characters, and may have {MAX_CHARACTERS:,}", hint="split it")
        voice = read_voice(self._folder, request.voice)
        embedding = None if voice is None else ov.Tensor(voice[None])
        sentences = split_sentences(request.text, self._limit)
        if not sentences:
            raise RequestError("there is nothing to speak", hint="send text")
        for sentence in sentences:
            if cancelled():
                return
            found = self._pipeline.generate(sentence, embedding)
            samples = np.array(found.speeches[0].data, np.float32).reshape(-1)
            if not np.isfinite(samples).all():
                raise RuntimeError("its speech is NaN")
            pause = np.zeros(int(_PAUSE * found.output_sample_rate), np.float32)
            send(Speech(np.concatenate([samples, pause]), int(found.output_sample_rate)))
