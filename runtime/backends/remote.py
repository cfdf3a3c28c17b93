"""Any OpenAI-compatible server, by its URL: vLLM, SGLang, llama.cpp's, `transformers serve`.

The prompt is ours and goes to `/v1/completions`, so templates, tools and parsing stay the same as on every engine; of
the folder only the texts are used, and weights may be missing. It goes as token ids, so that special tokens which
somebody typed stay text. `transformers serve` takes text alone: there such a prompt is refused, and special tokens of
a reply, as between two tool calls, are lost.
"""

import json
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from queue import SimpleQueue
from threading import Thread
from typing import Any, Self

from .. import strict_json
from ..cancellation import Cancellation
from ..checkpoint.checkpoint import Checkpoint, Folder
from ..errors import BackendError, DeviceError, PromptTooLong, RequestError
from ..grammar import JSON_OBJECT, Choice, Grammar, JsonObject, JsonSchema, Regex
from ..messages import Finish, FinishReason, Usage
from ..prompt.template import Prompt
from ..sampling import Sampling
from ..system import network
from .backend import Delta, Options, Request, check_pattern, refuse
from .remote_answer import Chunk, bound, complaint, integer, read_chunk, short

KEY = "EDGE_API_KEY"
_WAITS = (0.5, 1.0, 2.0, 4.0)  # seconds between attempts
_CONNECT, _SILENCE = 10.0, 300.0  # seconds: to connect, and between two words of the server (a long prompt is read)
_WHOLE = 8 * 2**20  # bytes of an answer that does not stream
_STREAM, _TOKEN = 2**20, 2**13  # bytes of one that does: for all, and more for each token; vLLM takes some 400
_SLACK = 64  # pieces of text beyond the tokens asked for, where a server counts none
_BUSY = (429, 503)
_NOT_SO = (ValueError, TypeError, AttributeError, RecursionError)  # JSON that is none, or of another shape
_WHAT_SERVER = "it has to be an OpenAI-compatible server; http://HOST:PORT#NAME gives the model's name"


@dataclass(frozen=True, slots=True)
class _RemoteRequest:
    """A request in our own terms. `stops` and `pad` are ids, `limit` counts new tokens."""

    prompt: Prompt
    ids: list[int]
    sampling: Sampling
    limit: int
    stops: list[int]
    pad: int


class Remote:
    """A model that a server has loaded. `http://host:8000#NAME` names it where the server has several."""

    def __init__(self, client: Any, url: str, model: str | None, folder: Checkpoint) -> None:
        self._context_length = folder.manifest.context_length
        self.max_prompt_tokens = self._context_length - 1
        self._client = client
        self._url = url
        self._model = model
        self._tokenizer = folder.tokenizer
        self._pad = int(folder.generation["pad_token_id"])
        self._vllm = False
        self._body: Callable[[_RemoteRequest], dict[str, Any]] = _with_ids

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """How the names of its devices begin."""
        return () if any(find_spec(name) is None for name in ("httpx2", "tokenizers")) else ("http://", "https://")

    @classmethod
    def refuse_missing(cls, device: str) -> None:
        """Raises DeviceError where packages are missing."""
        if not cls.devices():
            raise DeviceError("a server is asked with httpx2 and tokenizers", hint='pip install "glm4-edge[remote]"')

    @classmethod
    def load(cls, folder: Folder, device: str, options: Options) -> Self:
        """Asks the server what it has and what it takes. Raises DeviceError where none answers or it has another model,
        CheckpointError where the folder's tokenizer cannot be read."""
        cls.refuse_missing(device)
        described = folder if isinstance(folder, Checkpoint) else Checkpoint.open(folder.path)
        url, _, model = device.partition("#")
        try:
            network.parse_server_url(url)
        except ValueError as exc:
            raise DeviceError(f"{url} names no server: {exc}", hint="write it as http://HOST:PORT") from exc
        root = url.rstrip("/").removesuffix("/v1")
        client = _client(root, os.environ.get(KEY, "").strip())
        engine = cls(client, root, model or None, described)
        try:
            engine._greet(described.manifest.source.name)
        except BaseException:
            client.close()
            raise
        return engine

    def _greet(self, source: str) -> None:
        """Finds the model's name and context, and which of the two ways of asking the server takes."""
        listed = self._models()
        wanted = self._model or (listed[0]["id"] if len(listed) == 1 else source)
        chosen = [entry for entry in listed if _alike(entry["id"], wanted)]
        if self._model is None and listed and len(chosen) != 1:
            names = short(", ".join(entry["id"] for entry in listed))
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
        self._vllm = self._ask("GET", "version").status_code == 200
        text = ("1 2 3",)
        asked = _RemoteRequest(text, self._encode(text), Sampling(), 1, [], self._pad)
        answer = self._ask("POST", "v1/completions", _with_ids(asked) | self._named())
        if answer.status_code == 422:  # so does `transformers serve` refuse a parameter that it does not know
            self._body = _as_transformers
            answer = self._ask("POST", "v1/completions", _as_transformers(asked) | self._named())
        self._check_allowed(answer)
        if answer.status_code != 200:
            raise DeviceError(f"{self._url} completes no text: {complaint(answer)}", hint=_WHAT_SERVER)
        self._compare(answer, len(asked.ids))

    def _models(self) -> list[Mapping[str, Any]]:
        answer = self._ask("GET", "v1/models")
        self._check_allowed(answer)
        try:
            return [entry for entry in strict_json.parse(answer.content)["data"] if isinstance(entry["id"], str)]
        except (ValueError, KeyError, TypeError):
            return []  # it may have one model without a name

    def _check_allowed(self, answer: Any) -> None:
        if answer.status_code in (401, 403):
            raise DeviceError(f"{self._url} asks for a key", hint=f"put it into the environment as {KEY}")
        if answer.status_code == 407:
            raise DeviceError(
                f"the proxy in front of {self._url} asks for a user and password",
                hint="write them into its variable, as http://USER:PASSWORD@HOST:PORT",
            )

    def _compare(self, answer: Any, wanted: int) -> None:
        """A server that counts the same text otherwise has another tokenizer, or puts tokens before each prompt."""
        try:
            found = (strict_json.parse(answer.content).get("usage") or {}).get("prompt_tokens", wanted)
        except (ValueError, AttributeError) as exc:
            if "html" in answer.headers.get("Content-Type", ""):
                raise DeviceError(f"{self._url} answers with a web page", hint=_WHAT_SERVER) from exc
            raise DeviceError(f"{self._url} answers with no JSON object", hint=_WHAT_SERVER) from exc
        if found != wanted:
            raise DeviceError(
                f"{self._url} reads {short(str(found))} tokens where this model has {wanted}: it is another one",
                hint="name the folder or the checkpoint of the model that the server runs",
            )

    def _named(self) -> dict[str, Any]:
        return {} if self._model is None else {"model": self._model}

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self._encode(prompt))

    def admit(self, grammar: Grammar, cancellation: Cancellation) -> None:
        check_pattern(grammar)

    def generate(self, request: Request) -> Generator[Delta | Finish, None, None]:
        start = time.perf_counter()
        if self._client is None:
            raise BackendError("the model was closed", hint="load it again")
        refuse(request.sampling, "those of a server are not read", "logprobs")
        if self._body is _as_transformers:
            refuse(request.sampling, f"{self._url} does not know it", "presence_penalty", "frequency_penalty")
        ids = self._encode(request.prompt)
        if len(ids) > self.max_prompt_tokens:
            raise PromptTooLong(len(ids), self.max_prompt_tokens)
        room = self._context_length - len(ids)
        special = self._tokenizer.special_tokens
        stops = sorted(special[name] for name in request.stop_tokens if name in special)
        limit = min(request.sampling.max_new_tokens or room, room)
        if self._body is _as_transformers:
            self._refuse_typed_tokens(request.prompt, ids)
        body = (
            self._body(_RemoteRequest(request.prompt, ids, request.sampling, limit, stops, self._pad)) | self._named()
        )
        if self._body is _with_ids:
            body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
        if request.grammar is not None:
            body["structured_outputs"] = self._structured(request.grammar)
        generated, pieces, ttft = 0, 0, 0.0
        reason: FinishReason | None = None
        with closing(_Reading(self._stream(body, limit), request.cancellation)) as reading:
            for text, count, ended in reading.chunks():
                ttft = ttft or time.perf_counter() - start
                tokens = max(count - generated, 0) if count is not None else 1 if text else 0
                generated += tokens
                reason = ended or reason
                pieces += bool(text)
                if generated > limit or pieces > limit + _SLACK:  # it does not stop where it was asked to
                    generated, reason = limit, "length"
                    break
                if text or tokens:
                    yield Delta(text, tokens)
        if reason is None:
            raise BackendError(f"{self._url} broke off in mid-reply", hint="ask again; see the server's log")
        yield Finish(reason, Usage(len(ids), generated, ttft, time.perf_counter() - start))

    def _stream(self, body: dict[str, Any], limit: int) -> Generator[Chunk, None, None]:
        """The reply as it comes. Closing it hangs up."""
        import httpx2

        with closing(self._ask("POST", "v1/completions", body | {"stream": True}, stream=True)) as answer:
            try:
                bound(answer, self._url, _STREAM + limit * _TOKEN)
                if answer.status_code != 200:
                    answer.read()
                    raise BackendError(f"{self._url} refuses: {complaint(answer)}", hint="see the server's log")
                for event in httpx2.EventSource(answer, max_event_size=_STREAM):
                    if event.data == "[DONE]":
                        return
                    yield read_chunk(event.data, self._url)
            except httpx2.TimeoutException as exc:
                raise BackendError(f"{self._url} fell silent in mid-reply", hint="ask again") from exc
            except (httpx2.TransportError, httpx2.DecodingError, *_NOT_SO) as exc:
                raise BackendError(
                    f"{self._url} broke off in mid-reply: {short(str(exc)) or type(exc).__name__}",
                    hint="ask again; see the server's log",
                ) from exc

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None, *, stream: bool = False) -> Any:
        """The answer, whatever its status. Who refuses or drops the connection, or is busy, is asked again."""
        import httpx2

        for wait in (*_WAITS, None):
            try:
                answer = self._client.send(self._client.build_request(method, path, json=body), stream=True)
                if not stream:
                    with closing(answer):
                        bound(answer, self._url, _WHOLE, _SILENCE)
                        answer.read()
            except (httpx2.NetworkError, httpx2.RemoteProtocolError, httpx2.ConnectTimeout) as exc:
                if wait is None:
                    raise _unreachable(exc, self._url) from exc
            except httpx2.HTTPError as exc:
                fault = network.explain(exc, self._url) or network.NetworkFault(str(exc) or type(exc).__name__)
                raise BackendError(
                    f"{self._url} does not answer: {fault.cause}", hint=fault.hint or "ask again"
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

    def _refuse_typed_tokens(self, prompt: Prompt, ids: list[int]) -> None:
        special = set(self._tokenizer.special_tokens.values())
        as_text = self._tokenizer.encode("".join(prompt))
        if sum(id in special for id in as_text) != sum(id in special for id in ids):
            raise RequestError(
                f"the messages hold special tokens as text, which {self._url} would take for roles",
                hint="leave them out, or use a server that takes token ids, such as vLLM",
            )

    def _structured(self, grammar: Grammar) -> dict[str, Any]:
        """vLLM's `structured_outputs`; other servers would pass over it without a word."""
        if not self._vllm:
            raise RequestError(f"{self._url} is not vLLM, and cannot hold a grammar", hint="leave it out, or use vLLM")
        match grammar:
            case JsonSchema():
                return {"regex": grammar.pattern()}
            case JsonObject():
                return {"grammar": JSON_OBJECT}
            case Regex(pattern):
                return {"regex": pattern}
            case Choice(options):
                return {"choice": list(options)}

    def _encode(self, prompt: Prompt) -> list[int]:
        return [id for piece in prompt for id in self._tokenizer.encode(piece)]

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None


class _Reading:
    """A reply of the server, read in a thread of its own: who waits for a server's word cannot be cancelled."""

    def __init__(self, stream: Generator[Chunk, None, None], cancellation: Cancellation) -> None:
        self._stream = stream
        self._cancellation = cancellation
        self._read: SimpleQueue[Chunk | BaseException | None] = SimpleQueue()
        self._closed = False

    def chunks(self) -> Iterator[Chunk]:
        """To the server's end, or to one of ours whose reason is "cancelled"."""
        cancelled: Chunk = ("", None, "cancelled")
        with self._cancellation.calling(lambda: self._read.put(cancelled)):
            if not self._cancellation.cancelled:
                Thread(target=self._write, name="remote", daemon=True).start()
            while (chunk := self._read.get()) is not None:
                if isinstance(chunk, BaseException):
                    raise chunk
                yield chunk
                if chunk is cancelled:
                    return

    def close(self) -> None:
        """Hangs up, at the server's next word at the latest."""
        self._closed = True

    def _write(self) -> None:
        try:
            with closing(self._stream) as stream:
                for chunk in stream:
                    self._read.put(chunk)
                    if self._closed or self._cancellation.cancelled:
                        return
        except BaseException as exc:
            self._read.put(exc)
        else:
            self._read.put(None)


def _client(url: str, key: str) -> Any:
    """A client for this server. No proxy stands before this machine, whatever the environment has for others."""
    import httpx2

    if not (key.isascii() and key.isprintable()):
        raise DeviceError(f"{KEY} has characters that no key has", hint="set it to the server's key")
    try:
        # Given a transport, httpx2 does not read the proxies of the environment.
        direct = None if network.find_proxy(url) else httpx2.HTTPTransport(trust_env=url.lower().startswith("https"))
        return httpx2.Client(
            base_url=f"{url}/",
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=httpx2.Timeout(_SILENCE, connect=_CONNECT),
            transport=direct,
        )
    except (OSError, ImportError, ValueError, httpx2.InvalidURL) as exc:
        raise _unreachable(exc, url) from exc


def _unreachable(exc: Exception, url: str) -> DeviceError:
    fault = network.explain(exc, url) or network.NetworkFault(" ".join(str(exc).split()))
    if fault.hint:
        return DeviceError(f"{url} cannot be reached: {fault.cause}", hint=fault.hint)
    return DeviceError(f"no server answers at {url}: {fault.cause}", hint="start it, or check the URL")


def _with_ids(asked: _RemoteRequest) -> dict[str, Any]:
    """vLLM's parameters; SGLang and llama.cpp know most of them and pass over the others."""
    sampling = asked.sampling
    body = {
        "prompt": asked.ids,
        "max_tokens": asked.limit,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "stop_token_ids": asked.stops,
        "ignore_eos": not asked.stops,
        "skip_special_tokens": False,
    }
    return body if sampling.seed is None else body | {"seed": sampling.seed}


def _as_transformers(asked: _RemoteRequest) -> dict[str, Any]:
    """`transformers serve` refuses parameters that it does not know, and takes all of its own as one JSON text."""
    sampling = asked.sampling
    config: dict[str, Any] = {
        "max_new_tokens": asked.limit,
        "do_sample": sampling.temperature > 0,
        "repetition_penalty": sampling.repetition_penalty,
        "eos_token_id": asked.stops or None,
        "pad_token_id": asked.pad,
    }
    if sampling.temperature > 0:
        config |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
    body = {"prompt": "".join(asked.prompt), "generation_config": json.dumps(config)}
    return body if sampling.seed is None else body | {"seed": sampling.seed}


def _alike(name: str, other: str) -> bool:
    """Whether two names are of one model, the organisation or folder before them and upper case aside."""
    return name.rsplit("/", maxsplit=1)[-1].lower() == other.rsplit("/", maxsplit=1)[-1].lower()
