"""Load time of a model folder without the cache of compiled models, and with it for the first and second time.

    python -m benchmarks.load FOLDER --device GPU

Every load is in a new process: seconds until the folder is loaded, and then until the first token of a short prompt;
and CPU seconds, which depend little on what else the machine does. The cache is a temporary folder.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from runtime.backends.backend import Options, Request
from runtime.backends.choose import choose
from runtime.folder.compile_cache import CACHE_VARIABLE
from runtime.folder.model_folder import ModelFolder
from runtime.sampling import SamplingParams


def load(path: str, device: str, cache: bool) -> tuple[float, float, float]:
    """Return the seconds to load, the seconds to the first token after that, and the CPU seconds of both."""
    folder = ModelFolder.open(path)
    options = Options(cache=cache)
    choice = choose(device, folder, options)
    start, cpu = time.perf_counter(), time.process_time()
    backend = choice.backend.load(folder, choice.device, options)
    loaded = time.perf_counter()
    for _ in backend.generate(Request(("1 2 3",), (), SamplingParams(max_new_tokens=1))):
        pass
    return loaded - start, time.perf_counter() - loaded, time.process_time() - cpu


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
            loaded, first, cpu = pool.submit(load, args.folder, args.device, cache).result()
            size = sum(file.stat().st_size for file in Path(scratch).rglob("*") if file.is_file()) / 1e6
            print(
                f"{name:9} load {loaded:6.2f} s, first token {first:6.2f} s, CPU {cpu:6.2f} s; cache {size:,.1f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
