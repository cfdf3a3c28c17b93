"""Load time of a model folder without the cache of compiled models, and with it for the first and second time.

    python -m benchmarks.load FOLDER --device GPU

Every load is in a new process: seconds until the folder is loaded, and then until the first token of a short prompt;
and CPU seconds, which depend little on what else the machine does; anonymous memory at the end, and with the pages of
mapped files (Linux). The cache is a temporary folder.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import psutil

from runtime.backends.backend import Options, Request
from runtime.backends.choose import choose
from runtime.folder.compile_cache import CACHE_VARIABLE
from runtime.folder.model_folder import ModelFolder
from runtime.sampling import SamplingParams

from .process import anonymous_memory


def load(path: str, device: str, cache: bool) -> tuple[float, float, float, int, int]:
    """Return the seconds to load, the seconds to the first token after that, the CPU seconds of both, and the bytes of
    memory at the end: anonymous, and all."""
    folder = ModelFolder.open(path)
    options = Options(cache=cache)
    choice = choose(device, folder, options)
    start, cpu = time.perf_counter(), time.process_time()
    backend = choice.backend.load(folder, choice.device, options)
    loaded = time.perf_counter()
    for _ in backend.generate(Request(("1 2 3",), (), SamplingParams(max_new_tokens=1))):
        pass
    first = time.perf_counter() - loaded
    memory = anonymous_memory(), psutil.Process().memory_info().rss
    return loaded - start, first, time.process_time() - cpu, *memory


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    fresh = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as scratch,
        ProcessPoolExecutor(max_workers=1, mp_context=fresh, max_tasks_per_child=1) as pool,
    ):
        os.environ[CACHE_VARIABLE] = scratch
        for name, cache in (("no cache", False), ("first", True), ("second", True)):
            loaded, first, cpu, anonymous, resident = pool.submit(load, args.folder, args.device, cache).result()
            size = sum(file.stat().st_size for file in Path(scratch).rglob("*") if file.is_file()) / 1e6
            print(
                f"{name:9} load {loaded:6.2f} s, first token {first:6.2f} s, CPU {cpu:6.2f} s; "
                f"anonymous {anonymous / 1e6:,.0f} MB of {resident / 1e6:,.0f} MB, cache {size:,.1f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
