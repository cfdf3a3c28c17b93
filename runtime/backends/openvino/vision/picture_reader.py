"""The pictures of requests, read by the image tower in a thread, so that other replies go on meanwhile.

Features are kept by the hash of the pixels, so a picture is read once for all turns of a chat. The tower is compiled
for the first picture, and released when it has nothing to do for a while, or at once where memory is short.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import replace
from threading import Event, Lock, Thread, Timer
from typing import TYPE_CHECKING, Any

from ....device.machine import free_memory
from ....errors import BackendError, EdgeError, ModelFolderError
from ....events import PictureProgress
from ....folder.model_folder import CONVERT_AGAIN, ModelFolder
from ....pictures import Picture
from ....prompt.picture_tokens import PictureTokens
from ....system.out_of_memory import HINT, MESSAGE, is_out_of_memory
from ...backend import Options
from ..genai import error_line
from .image_tower import ImageTower, tower_bytes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_KEPT = 256 * 2**20  # bytes of features
_IDLE = 300.0  # seconds after the last picture in which the tower stays in memory
_NOTICE = 1.0  # seconds between two progress events


class PictureTask:
    """A picture to read, for `users` requests. Once `done` it has `features`, of shape [tokens, width], or an `error`;
    neither, if no request wanted it any more."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.users = 0
        self.start = 0.0  # when the tower began with it
        self.done = Event()
        self.features: npt.NDArray[np.float32] | None = None
        self.error: Exception | None = None

    @property
    def wanted(self) -> bool:
        """Whether a request waits for it, or uses it."""
        return self.users > 0


class PictureReading:
    """The pictures of one request while they are read."""

    def __init__(self, reader: "PictureReader", tasks: Sequence[PictureTask]) -> None:
        self._reader = reader
        self._tasks = tasks
        self._unread = [task for task in dict.fromkeys(tasks) if not task.done.is_set()]
        self._told = 0.0
        self.start = time.perf_counter()

    @property
    def done(self) -> bool:
        """Whether all pictures are read, or one could not be."""
        return any(task.error for task in self._tasks) or all(task.done.is_set() for task in self._tasks)

    def wait(self, seconds: float) -> bool:
        """Wait until a picture is read; return whether all are."""
        for task in self._tasks:
            if not task.done.is_set():
                task.done.wait(seconds)
                break
        return self.done

    def features(self) -> "list[npt.NDArray[np.float32]]":
        """Return the features of the pictures, in their order. Raises what reading one raised."""
        for task in self._tasks:
            if task.error is not None:
                raise task.error
        return [task.features for task in self._tasks if task.features is not None]

    def progress(self) -> PictureProgress | None:
        """Return the progress, if a second has passed since the last time."""
        now = time.perf_counter()
        if self.done or (self._told and now - self._told < _NOTICE):
            return None
        self._told = now
        current = next((task for task in self._unread if not task.done.is_set()), None)
        if current is None:
            return None
        start = current.start or self.start
        number = self._unread.index(current) + 1
        return PictureProgress(number, len(self._unread), now - start, self._reader.last_seconds)

    def close(self) -> None:
        """Stop reading what no other request waits for."""
        self._reader.release(self._tasks)


class PictureReader:
    """The tower of a model folder, its queue of pictures, and the features of those that were read last."""

    def __init__(self, folder: ModelFolder, device: str, options: Options, tokens: PictureTokens) -> None:
        self._loading = (folder, device, options)
        self._tokens = tokens
        self._lock = Lock()  # round all that follows
        self._kept: OrderedDict[str, PictureTask] = OrderedDict()  # by hash, the last used one last
        self._queue: deque[PictureTask] = deque()
        self._tower: ImageTower | None = None
        self._running = False
        self._timer: Timer | None = None
        self.last_seconds = 0.0  # that the last picture took

    def read(self, pictures: Sequence[Picture]) -> PictureReading:
        """Begin to read those of the pictures whose features are not kept. Close the result in the end."""
        with self._lock:
            return PictureReading(self, [self._task(picture) for picture in pictures])

    def _task(self, picture: Picture) -> PictureTask:
        task = self._kept.get(picture.sha256)
        if task is None or task.error is not None or (task.done.is_set() and task.features is None):
            task = self._kept[picture.sha256] = PictureTask(picture)
            self._queue.append(task)
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if not self._running:
                self._running = True
                Thread(target=self._run, name="pictures", daemon=True).start()
        self._kept.move_to_end(picture.sha256)
        task.users += 1
        return task

    def release(self, tasks: Sequence[PictureTask]) -> None:
        """Take back the interest of a request in its pictures."""
        with self._lock:
            for task in tasks:
                task.users -= 1
            self._drop_old()

    def close(self) -> None:
        """Stop what is being read, and release the tower."""
        with self._lock:
            for task in self._kept.values():
                task.users = 0
            self._kept.clear()
            if self._timer is not None:
                self._timer.cancel()
            self._tower = None

    def _drop_old(self) -> None:
        nbytes = sum(task.features.nbytes for task in self._kept.values() if task.features is not None)
        for key, task in list(self._kept.items()):
            if task.wanted or not task.done.is_set():
                continue
            if task.features is None or nbytes > _KEPT:
                nbytes -= 0 if task.features is None else task.features.nbytes
                del self._kept[key]

    def _run(self) -> None:
        """Read pictures until the queue is empty."""
        while True:
            with self._lock:
                if not self._queue:
                    self._running = False
                    self._release_tower()
                    return
                task = self._queue.popleft()
            if task.wanted:
                self._read(task)
            with self._lock:
                if task.wanted and task.features is None and task.error is None:
                    self._queue.appendleft(task)  # it was stopped, and another request wants it
                else:
                    task.picture = replace(task.picture, data=b"")  # it is not read again
                    task.done.set()
                    self._drop_old()

    def _read(self, task: PictureTask) -> None:
        task.start = time.perf_counter()
        try:
            tower = self._tower = self._tower or ImageTower(*self._loading)
            pixels = _resized(task.picture, *self._tokens.size(task.picture))
            found = tower.run(pixels, lambda: not task.wanted)
            if found is not None and len(found) != (wanted := self._tokens.count(task.picture)):
                raise ModelFolderError(
                    f"the image tower makes {len(found):,} tokens of a picture, not {wanted:,}", hint=CONVERT_AGAIN
                )
            task.features = found
        except EdgeError as exc:
            task.error = exc
        except Exception as exc:  # noqa: BLE001
            memory = is_out_of_memory(exc)
            message = MESSAGE if memory else f"OpenVINO cannot read the picture: {error_line(exc)}"
            task.error = BackendError(message, hint=HINT if memory else "load the model again")
        if task.features is not None:
            self.last_seconds = time.perf_counter() - task.start

    def _release_tower(self) -> None:
        """Release the tower now, or when it was idle for a while. Called under the lock."""
        folder, *_ = self._loading
        if free_memory() < tower_bytes(folder) // 2:
            self._tower = None
            return
        self._timer = Timer(_IDLE, self._release_if_idle)
        self._timer.daemon = True
        self._timer.start()

    def _release_if_idle(self) -> None:
        with self._lock:
            if not self._running:
                self._tower = None


def _resized(picture: Picture, height: int, width: int) -> Any:
    """Return the picture's pixels in this size, as torchvision resizes a PIL image: bicubic, with antialiasing."""
    import numpy as np
    from PIL import Image

    image = Image.fromarray(picture.pixels())
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
