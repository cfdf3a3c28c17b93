"""Any OpenAI-compatible server, by its URL: our own, vLLM, SGLang, llama.cpp's, `transformers serve`.

The prompt is rendered here and sent to `/v1/completions`, so templates, tools and parsing are the same as on every
engine; only the texts of the model's folder are used, and weights may be missing. It is sent as token ids, so that
special tokens typed by a user stay text. `transformers serve` accepts only text: such a prompt is rejected there, and
special tokens in a reply, as between two tool calls, are lost.
"""

import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from importlib.util import find_spec
from typing import Any, Self

from ... import strict_json
from ...cancellation import Cancellation
from ...checkpoint.checkpoint import Checkpoint
from ...errors import (
    BackendError,
    DeviceError,
    EdgeError,
    PromptTooLong,
    RequestError,
    UnsupportedGrammar,
    UnsupportedSetting,
)
from ...events import Finish, FinishReason, Usage
from ...grammar.grammar import Grammar, JsonSchema, to_tree
from ...grammar.printers.ebnf import EngineGrammar
from ...grammar.rest import Rest
from ...prompt.template import Prompt, TextPrompt, require_text
from ...sampling import SamplingParams
from ...source import ModelSource
from ...system import network
from ...system.installation import install_hint
from ...vocabulary import Vocabulary
from ..backend import Backend, Delta, FoundDevice, Options, Request, require_supported
from .answer import Chunk, error_of, integer, is_same_model, limit_answer, read_chunk, rejection, shortened
from .body import (
    OPENAI_SETTINGS,
    TRANSFORMERS_SETTINGS,
    VLLM_SETTINGS,
    RemoteRequest,
    structured_outputs,
    transformers_body,
    vllm_body,
)
from .client import KEY, SILENCE, create_client, unreachable
from .reader import RemoteReplyReader
from .tokens import LoggedTokenReader

_WAITS = (0.5, 1.0, 2.0, 4.0)  # seconds between attempts
_WHOLE = 8 * 2**20  # bytes of an answer that does not stream
_STREAM, _TOKEN = 2**20, 2**13  # bytes of one that does: for all, and more for each token; vLLM takes some 400
_SLACK = 64  # pieces of text beyond the tokens asked for, where a server counts none
_BUSY = (429, 503)
_NOT_SO = (ValueError, TypeError, AttributeError, RecursionError)  # JSON that is none, or of another shape
_WHAT_SERVER = "it has to be an OpenAI-compatible server; http://HOST:PORT#NAME gives the model's name"


class Remote(Backend):
    """A model that a server has loaded. `http://host:8000#NAME` names it if the server has several."""

    runs_checkpoints = True
    reads_weights = False
    reads_ids = True
    max_requests = 256  # the server queues what is too much for it

    def __init__(self, client: Any, url: str, model: str | None, folder: Checkpoint) -> None:
        self._context_length = folder.manifest.context_length
        self.max_prompt_tokens = self._context_length - 1
        self._client = client
        self._url = url
        self._model = model
        self._tokenizer = folder.tokenizer
        self._pad = int(folder.generation["pad_token_id"])
        self._vllm = False
        self._vocabulary: Vocabulary | None = None
        self._body: Callable[[RemoteRequest], dict[str, Any]] = vllm_body

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Return the prefixes of its device names."""
        return () if any(find_spec(name) is None for name in ("httpx2", "tokenizers")) else ("http://", "https://")

    @classmethod
    def find_device(cls, name: str) -> FoundDevice | None:
        return FoundDevice(name) if name.lower().startswith(("http:", "https:")) else None

    @classmethod
    def accepts(cls, source: ModelSource) -> bool:
        """Whether the source has a tokenizer, as every source does: only the texts are used."""
        return True

    @classmethod
    def require_installed(cls, device: str) -> None:
        """Raise DeviceError if packages are missing."""
        if not cls.devices():
            raise DeviceError("a server as a device needs httpx2 and tokenizers", hint=install_hint("remote"))

    @classmethod
    def load(cls, source: ModelSource, device: str, options: Options) -> Self:
        """Query the server's model and API. Raises DeviceError if no server answers or it has another model,
        CheckpointError if the tokenizer cannot be read."""
        cls.require_installed(device)
        described = source.checkpoint or Checkpoint.open(source.path)
        url, _, model = device.partition("#")
        try:
            network.parse_server_url(url)
        except ValueError as exc:
            raise DeviceError(f"{url} is not a server's URL: {exc}", hint="write it as http://HOST:PORT") from exc
        root = url.rstrip("/").removesuffix("/v1")
        client = create_client(root, os.environ.get(KEY, "").strip())
        engine = cls(client, root, model or None, described)
        try:
            engine._handshake(described.manifest.source.name)
        except BaseException:
            client.close()
            raise
        return engine

    def _handshake(self, source: str) -> None:
        """Find the model's name and context length, and which of the two request formats the server accepts."""
        listed = self._models()
        wanted = self._model or (listed[0]["id"] if len(listed) == 1 else source)
        chosen = [entry for entry in listed if is_same_model(entry["id"], wanted)]
        if self._model is None and listed and len(chosen) != 1:
            names = shortened(", ".join(entry["id"] for entry in listed))
            raise DeviceError(f"{self._url} has several models: {names}", hint=f"name one: {self._url}#NAME")
        for entry in chosen:
            self._model = entry["id"]
            try:
                length = integer(entry.get("max_model_len"), "max_model_len") or 0
            except ValueError as exc:
                raise DeviceError(f"{self._url} cannot be used: {exc}", hint=_WHAT_SERVER) from exc
            if length > 1:
                self._context_length = min(self._context_length, length)
            self.max_prompt_tokens = self._context_length - 1
        self._vllm = self._send("GET", "version").status_code == 200
        text = ("1 2 3",)
        probe = RemoteRequest(text, self.encode(text), SamplingParams(), 1, [], self._pad)
        answer = self._send("POST", "v1/completions", vllm_body(probe) | self._model_field())
        if answer.status_code == 422:  # so does `transformers serve` refuse a parameter that it does not know
            self._body = transformers_body
            answer = self._send("POST", "v1/completions", transformers_body(probe) | self._model_field())
        self._check_allowed(answer)
        if answer.status_code != 200:
            raise DeviceError(f"{self._url} completes no text: {error_of(answer)}", hint=_WHAT_SERVER)
        self._check_tokenizer(answer, len(probe.ids))

    def _models(self) -> list[Mapping[str, Any]]:
        answer = self._send("GET", "v1/models")
        self._check_allowed(answer)
        try:
            return [entry for entry in strict_json.parse(answer.content)["data"] if isinstance(entry["id"], str)]
        except (ValueError, KeyError, TypeError):
            return []  # it may have one model without a name

    def _check_allowed(self, answer: Any) -> None:
        if answer.status_code in (401, 403):
            raise DeviceError(f"{self._url} requires an API key", hint=f"set the environment variable {KEY}")
        if answer.status_code == 407:
            raise DeviceError(
                f"the proxy in front of {self._url} requires a user name and password",
                hint="add them to the proxy's variable, as http://USER:PASSWORD@HOST:PORT",
            )

    def _check_tokenizer(self, answer: Any, wanted: int) -> None:
        """Raise DeviceError if the server counts another number of tokens: it has another tokenizer, or adds tokens
        to prompts."""
        try:
            found = (strict_json.parse(answer.content).get("usage") or {}).get("prompt_tokens", wanted)
        except (ValueError, AttributeError) as exc:
            if "html" in answer.headers.get("Content-Type", ""):
                raise DeviceError(f"{self._url} answers with a web page", hint=_WHAT_SERVER) from exc
            raise DeviceError(f"{self._url} answers with no JSON object", hint=_WHAT_SERVER) from exc
        if found != wanted:
            raise DeviceError(
                f"{self._url} reads {shortened(str(found))} tokens where this model has {wanted}: it is another one",
                hint="pass the folder or the checkpoint of the model that the server runs",
            )

    def _model_field(self) -> dict[str, Any]:
        return {} if self._model is None else {"model": self._model}

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]:
        start = time.perf_counter()
        if self._client is None:
            raise BackendError("the model was closed", hint="load it again")
        require_supported(request.sampling, self._settings, f"by {self._url}")
        prompt = require_text(request.prompt, "a server")
        ids = [*request.prompt_ids, *self.encode(prompt)]
        if len(ids) > self.max_prompt_tokens:
            raise PromptTooLong(len(ids), self.max_prompt_tokens)
        room = self._context_length - len(ids)
        special = self._tokenizer.special_tokens
        stops = sorted({special[name] for name in request.stop_tokens if name in special} | set(request.stop_ids))
        limit = min(request.sampling.max_new_tokens or room, room)
        if self._body is transformers_body:
            self._reject_ids(request)
            self._reject_typed_tokens(prompt, ids)
        body = self._body(RemoteRequest(prompt, ids, request.sampling, limit, stops, self._pad)) | self._model_field()
        if self._body is vllm_body:
            body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
        if request.grammar is not None:
            body["structured_outputs"] = self._structured_outputs(request.grammar)
        generated, pieces, ttft = 0, 0, 0.0
        reason: FinishReason | None = None
        logged = self._token_reader(request.sampling, stops) if request.sampling.logprobs else None
        with closing(RemoteReplyReader(self._stream(body, limit, request), request.cancellation)) as reading:
            for chunk in reading.chunks():
                ttft = ttft or time.perf_counter() - start
                counted = len(chunk.tokens) or int(bool(chunk.text))
                tokens = counted if chunk.total is None else max(chunk.total - generated, 0)
                generated += tokens
                reason = chunk.ended or reason
                pieces += bool(chunk.text)
                if generated > limit or pieces > limit + _SLACK:  # it does not stop where it was asked to
                    generated, reason = limit, "length"
                    break
                if logged is not None:
                    yield from logged.read(chunk, tokens)
                elif chunk.text or tokens:
                    yield Delta(chunk.text, tokens)
        if reason is None:
            raise BackendError(
                f"{self._url} broke off in mid-reply", hint="send the request again; see the server's log"
            )
        stop_token = None if logged is None else logged.stop_token
        yield Finish(reason, Usage(len(ids), generated, ttft, time.perf_counter() - start), stop_token=stop_token)

    @property
    def _settings(self) -> frozenset[str]:
        """The sampling settings that the server supports: other servers than vLLM do not tell ids of tokens."""
        if self._body is transformers_body:
            return TRANSFORMERS_SETTINGS
        return VLLM_SETTINGS if self._vllm else OPENAI_SETTINGS

    def _token_reader(self, sampling: SamplingParams, stops: Sequence[int]) -> LoggedTokenReader:
        if self._vocabulary is None:
            self._vocabulary = Vocabulary.parse(self._tokenizer.tokenizer.to_str())
        return LoggedTokenReader(self._vocabulary, stops, sampling.top_logprobs, self._url)

    def _stream(self, body: dict[str, Any], limit: int, request: Request) -> Generator[Chunk, None, None]:
        """Yield the reply as it arrives. Closing the generator closes the connection."""
        import httpx2

        with closing(self._send("POST", "v1/completions", body | {"stream": True}, stream=True)) as answer:
            try:
                limit_answer(answer, self._url, _STREAM + limit * _TOKEN)
                if answer.status_code != 200:
                    answer.read()
                    raise self._rejected(answer, request)
                for event in httpx2.EventSource(answer, max_event_size=_STREAM):
                    if event.data == "[DONE]":
                        return
                    yield read_chunk(event.data, self._url)
            except httpx2.TimeoutException as exc:
                raise BackendError(f"{self._url} stopped sending in mid-reply", hint="send the request again") from exc
            except (httpx2.TransportError, httpx2.DecodingError, *_NOT_SO) as exc:
                raise BackendError(
                    f"{self._url} broke off in mid-reply: {shortened(str(exc)) or type(exc).__name__}",
                    hint="send the request again; see the server's log",
                ) from exc

    def _rejected(self, answer: Any, request: Request) -> EdgeError:
        """Return the error of a request that the server rejects: what the engine itself would have raised, if the
        server names the setting or the grammar."""
        message, (code, param) = f"{self._url} rejects the request: {error_of(answer)}", rejection(answer)
        if param.startswith("structured_outputs") and isinstance(request.grammar, Grammar):
            return UnsupportedGrammar(message, hint="simplify it", grammar=request.grammar)
        if code == "unsupported_parameter":
            return UnsupportedSetting(message, hint=f"leave out {param}", setting=param)
        return BackendError(message, hint="see the server's log")

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None, *, stream: bool = False) -> Any:
        """Return the response, whatever its status. A refused or dropped connection, or a busy server, is retried."""
        import httpx2

        for wait in (*_WAITS, None):
            try:
                answer = self._client.send(self._client.build_request(method, path, json=body), stream=True)
                if not stream:
                    with closing(answer):
                        limit_answer(answer, self._url, _WHOLE, SILENCE)
                        answer.read()
            except (httpx2.NetworkError, httpx2.RemoteProtocolError, httpx2.ConnectTimeout) as exc:
                if wait is None:
                    raise unreachable(exc, self._url) from exc
            except httpx2.HTTPError as exc:
                fault = network.explain(exc, self._url) or network.NetworkFault(str(exc) or type(exc).__name__)
                raise BackendError(
                    f"{self._url} does not answer: {fault.cause}", hint=fault.hint or "send the request again"
                ) from exc
            else:
                if answer.status_code not in _BUSY or wait is None:
                    return answer
                answer.close()
                asked = answer.headers.get("Retry-After", "")
                time.sleep(min(float(asked), 30.0) if asked.isdecimal() else wait)
                continue
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _reject_ids(self, request: Request) -> None:
        for name, ids in (("prompt", request.prompt_ids), ("stop_token_ids", request.stop_ids)):
            if ids:
                raise UnsupportedSetting(
                    f"{self._url} takes no token ids as {name}", hint="send text, or use vLLM", setting=name
                )

    def _reject_typed_tokens(self, prompt: TextPrompt, ids: list[int]) -> None:
        special = set(self._tokenizer.special_tokens.values())
        as_text = self._tokenizer.encode("".join(prompt))
        if sum(id in special for id in as_text) != sum(id in special for id in ids):
            raise RequestError(
                f"the messages contain special tokens as text, which {self._url} would read as roles",
                hint="leave them out, or use a server that takes token ids, such as vLLM",
            )

    def admit(self, grammar: Grammar, cancellation: Cancellation) -> None:
        """Leave the check to the server, but for a schema in whose place any JSON object will do. Raises
        UnsupportedGrammar if the server enforces no grammar, or does not support this one."""
        try:
            self._structured_outputs(grammar)
            if isinstance(grammar, JsonSchema) and not grammar.strict:
                to_tree(grammar)
        except RequestError as exc:
            raise UnsupportedGrammar(str(exc), hint=exc.hint, grammar=grammar) from exc

    def _structured_outputs(self, grammar: Grammar | Rest | EngineGrammar) -> dict[str, Any]:
        """Translate a grammar. Other servers than vLLM would ignore it silently, so it is rejected there."""
        if not self._vllm:
            raise RequestError(
                f"{self._url} is not vLLM, and cannot enforce a grammar", hint="leave it out, or use vLLM"
            )
        return structured_outputs(grammar)

    def encode(self, prompt: Prompt) -> list[int]:
        return [id for piece in require_text(prompt, "a server") for id in self._tokenizer.encode(piece)]

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None
