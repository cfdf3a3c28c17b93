"""Run a file of requests without a server: `edge batch`."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import RequestError
from runtime.text import quoted

from ..app import ENDPOINTS
from ..errors import ApiError
from ..pool.dispatcher import Dispatcher
from ..pool.model_pool import ModelPool
from .endpoint_call import EndpointCalls, batch_endpoints, run_parallel
from .journal import ResultJournal
from .request_file import BatchRequest, RequestFile
from .results import BatchResult

_ENDPOINTS = batch_endpoints(ENDPOINTS)


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """The lines of a file, those that failed, and the tokens that this run generated, with its seconds."""

    total: int
    failed: int
    completion_tokens: int
    seconds: float


def run_file(
    pool: ModelPool, requests: Path, output: Path, *, parallel: int, report: Callable[[str], None]
) -> BatchSummary:
    """Run the requests of a file, `parallel` of them at once, and write their results. `report` receives a line for
    each request.

    An interrupted run is resumed: requests that were answered are not run again. Raises RequestError for a file that
    cannot be read, or in which two requests have the same custom_id.
    """
    if output.exists() and requests.exists() and output.samefile(requests):
        raise RequestError("the output would replace the requests", hint="choose another name for the output")
    try:
        opened = requests.open("rb")
    except OSError as exc:
        raise RequestError(f"{requests} cannot be read: {exc.strerror}", hint="pass a JSONL file of requests") from exc
    with opened:
        file = RequestFile(
            opened,
            tuple(_ENDPOINTS),
            lambda name: _answered_by(pool, name),
            max_bytes=pool.chat_bytes,
            max_requests=2**31,
        )
        if twice := next((line for line in file.invalid if line.code == "duplicate_custom_id"), None):
            raise RequestError(f"{requests}: {twice.message}", hint="choose a custom_id of its own for each request")
        with closing(ResultJournal(output)) as journal:
            waiting = journal.unanswered(file.requests)
            _require_known_model(pool, waiting)
            total = len(file.requests) + len(file.invalid)
            if done := len(file.requests) - len(waiting):
                report(f"{done:,} of {total:,} requests were answered by an earlier run")
            for line in file.invalid:
                report(f"line {line.line:,}: {line.message}")
            run = _Run(pool, file, journal, report)
            if waiting:
                asyncio.run(run.answer_all(waiting, parallel))
            journal.write_output(file.requests, file.invalid)
    return BatchSummary(total, len(file.invalid) + run.failed, run.completion_tokens, run.seconds)


class _Run:
    """The run of a file's requests, and its sums."""

    def __init__(
        self, pool: ModelPool, file: RequestFile, journal: ResultJournal, report: Callable[[str], None]
    ) -> None:
        self._pool = pool
        self._file = file
        self._journal = journal
        self._report = report
        self.failed = 0
        self.completion_tokens = 0
        self.seconds = 0.0  # without loading the first model

    async def answer_all(self, requests: Sequence[BatchRequest], parallel: int) -> None:
        """Run the requests, and append their results to the journal. Raises EdgeError if the first model cannot be
        loaded."""
        calls = EndpointCalls(Dispatcher(self._pool), _ENDPOINTS)

        async def answer(request: BatchRequest) -> BatchResult:
            return await calls.answer(self._file, request)

        try:
            await self._pool.load(self._pool.find(None))
            start = time.perf_counter()
            async with aclosing(run_parallel(requests, answer, parallel)) as results:
                number = 0
                async for result in results:
                    number += 1
                    self._journal.append(result)
                    self.failed += not result.succeeded
                    self.completion_tokens += result.completion_tokens
                    self.seconds = time.perf_counter() - start
                    self._report(f"[{number:,}/{len(requests):,}] {_describe(result)}")
        finally:
            self._pool.close()


def _require_known_model(pool: ModelPool, requests: Sequence[BatchRequest]) -> None:
    """Raise RequestError if every request names a model that is not in the pool."""
    unknown = [request for request in requests if not _is_known(pool, request.model)]
    if unknown and len(unknown) == len(requests):
        raise RequestError(
            f"every request names a model that is not here, such as {quoted(str(unknown[0].model))}",
            hint=f"write {' or '.join(pool.entries)} in the requests, leave the model out, or use --model NAME=FOLDER",
        )


def _describe(result: BatchResult) -> str:
    if result.succeeded:
        what = f"{result.completion_tokens:,} tokens" if result.completion_tokens else "answered"
        return f"{result.request.custom_id}: {what}, {result.seconds:.1f} s"
    error = result.body.get("error", {})
    return f"{result.request.custom_id}: error {result.status}: {error.get('message', '')}"


def _is_known(pool: ModelPool, name: str | None) -> bool:
    try:
        pool.find(name)
    except ApiError:
        return False
    return True


def _answered_by(pool: ModelPool, name: str | None) -> str:
    """Return the model's name and its sampling: a result of other settings is not reused."""
    return f"{pool.find(name).name} {pool.find(name).sampling}" if _is_known(pool, name) else str(name)
