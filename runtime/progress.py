"""The progress of long work: a conversion, a download, a load."""

from dataclasses import dataclass

from .folder.model_folder import ModelFolder


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of long work.

    - `name`: the step, such as "download", "compress", "verify" or "load"; `detail`: what it works on.
    - `done` of `total`: in the step's own unit, such as bytes; `total` is None where it is unknown.
    - `result`: the model folder, in the last one of a conversion.

    Example:
        def show(progress: edge.Progress) -> None:
            print(f"{progress.name}: {progress.done} of {progress.total}")

        edge.convert("./GLM-4-9B-0414", "./glm4-int8", recipe="int8", progress=show)
    """

    name: str
    detail: str = ""
    done: int = 0
    total: int | None = None
    result: ModelFolder | None = None
