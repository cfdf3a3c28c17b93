"""Prometheus metrics of the server: requests, tokens, latencies, queues. No text of a request or a reply is in them."""

import asyncio
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from runtime.errors import BackendError
from runtime.events import Usage
from runtime.speech.requests import Speech, Transcript

from .model_pool import ModelPool

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_TTFT = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)
_PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """Counters and histograms, in seconds and tokens. TTFT is the time from a request's arrival to the first event of
    its reply, including the wait in the queue."""

    def __init__(self, pool: ModelPool) -> None:
        self._pool = pool
        self._registry = CollectorRegistry()
        self._kv_cache: dict[str, int] = {}
        self.requests = self._counter("edge_requests", "Requests answered", "path", "status")
        self.tokens = self._counter("edge_tokens", "Prompt and completion tokens", "model", "kind")
        self.audio = self._counter("edge_audio_seconds", "Seconds of audio, heard and spoken", "model", "kind")
        self.ttft = self._histogram("edge_time_to_first_token_seconds", "From the request to its first token", _TTFT)
        self.per_token = self._histogram(
            "edge_time_per_output_token_seconds", "Between two tokens of a reply, on average", _PER_TOKEN
        )
        self._registry.register(self)

    def observe_ttft(self, model: str, seconds: float) -> None:
        """Record a reply's time to first token."""
        self.ttft.labels(model).observe(seconds)

    def observe_usage(self, model: str, usage: Usage) -> None:
        """Record the tokens and seconds of a finished reply."""
        self.tokens.labels(model, "prompt").inc(usage.prompt_tokens)
        self.tokens.labels(model, "completion").inc(usage.completion_tokens)
        if usage.completion_tokens > 1:
            self.per_token.labels(model).observe((usage.seconds - usage.ttft) / (usage.completion_tokens - 1))

    def observe_transcript(self, model: str, transcript: Transcript) -> None:
        """Record the seconds of a recording."""
        self.audio.labels(model, "heard").inc(transcript.duration)

    def observe_speech(self, model: str, pieces: Sequence[Speech]) -> None:
        """Record the seconds of speech."""
        self.audio.labels(model, "spoken").inc(sum(len(piece.samples) / piece.sample_rate for piece in pieces))

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges with their current values, as prometheus_client's collectors do."""
        entries = (*self._pool.entries.values(), *self._pool.auxiliary.values())
        for name, words, values in (
            (
                "edge_requests_running",
                "Replies being generated",
                {entry.name: entry.queue.running for entry in entries},
            ),
            ("edge_requests_waiting", "Requests in the queue", {entry.name: entry.queue.waiting for entry in entries}),
            (
                "edge_model_loaded",
                "Whether the model is loaded",
                {entry.name: int(entry.loaded) for entry in entries},
            ),
            (
                "edge_model_loading",
                "Whether the model is being loaded",
                {entry.name: int(entry.state == "loading") for entry in entries},
            ),
            ("edge_kv_cache_bytes", "Bytes of the KV cache in use, where the engine reports them", self._kv_cache),
        ):
            gauge = GaugeMetricFamily(name, words, labels=["model"])
            for model, value in values.items():
                gauge.add_metric([model], value)
            yield gauge

    async def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        self._kv_cache = {}
        for entry in self._pool.entries.values():
            if entry.model is not None:
                try:
                    nbytes = await asyncio.to_thread(entry.model.backend.kv_cache_bytes)
                except BackendError:
                    continue  # the engine has failed; the model's next request loads it again
                if nbytes is not None:
                    self._kv_cache[entry.name] = nbytes
        return generate_latest(self._registry)

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(name, words, labels, registry=self._registry)

    def _histogram(self, name: str, words: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, words, ["model"], buckets=buckets, registry=self._registry)
