"""The search by meaning in documents that the page uploads: by the server's embedding model, in turns with others."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

from runtime.cancellation import Cancellation
from runtime.documents.search import Embed
from runtime.errors import RequestError
from runtime.retrieval.embedding_model import normalize

from ..pool.auxiliary.encoders import EncoderPool

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_BATCH = 64  # texts of one turn of the model


def embed_by(encoders: EncoderPool, cancellation: Cancellation, client: str) -> Embed | None:
    """Return a function that returns the vectors of texts by the first embedding model of the server, None if it has
    none. Call this in the event loop, and the function in a thread, where it waits for its turns."""
    entry = next((one for one in encoders.entries.values() if one.task == "embedding"), None)
    if entry is None:
        return None
    loop = asyncio.get_running_loop()

    def embed(texts: Sequence[str]) -> "npt.NDArray[np.float32]":
        import numpy as np

        found: list[npt.NDArray[np.float32]] = []
        for begin in range(0, len(texts), _BATCH):
            batch = [text.strip() or "." for text in texts[begin : begin + _BATCH]]
            work = encoders.embed(entry, batch, np.asarray, truncate=True, client=client)
            future = asyncio.run_coroutine_threadsafe(work, loop)
            with cancellation.on_cancel(lambda future=future: future.cancel()):  # type: ignore[misc]
                try:
                    found += future.result()[0]
                except CancelledError as exc:
                    raise RequestError("the search was cancelled", hint="send the question again") from exc
        return normalize(np.stack(found))

    return embed
