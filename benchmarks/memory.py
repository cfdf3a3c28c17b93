"""The estimate of runtime/device/memory.py against the memory that a chat takes on a CPU.

    python -m benchmarks.memory FOLDER … [--context 2048] [--kv-precision u8] [--precision f32] [--no-kernel]

Each folder is loaded in a new process, which fills the context with a prompt and a reply of 16 tokens. Another process
samples the peak of its anonymous memory, since the engine blocks all threads of its own while it works. Pages of mapped
files are not included, neither in the estimate: once weights are repacked their pages are not read again, and the
system reclaims them; `file` is the part of them that the last 8 tokens touched, and `mapped` the weights that the int4
kernel reads there, where `edge kernel` has built it. Linux only, as both are read from /proc.
"""

import argparse
import json
import multiprocessing
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection

import psutil

from edge.bench import random_prompt
from runtime.backends.backend import Options, Request
from runtime.backends.openvino.int4.loading import find_mapped_weights
from runtime.backends.openvino.paged.batched import OpenVINO
from runtime.device.memory import estimate
from runtime.folder.model_folder import ModelFolder
from runtime.sampling import SamplingParams

from .process import PeakSampler, anonymous_memory, forget_touched_pages, touched_file_pages

_EVERY = 0.01  # seconds
_REPLY = 16


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """Sizes in bytes; `error` is the relative error of the estimate."""

    folder: str
    context: int
    kv_precision: str
    loaded: int
    peak: int
    file: int
    mapped: int
    estimate: int
    error: float


def chat(pipe: "Connection[tuple[int, int], None]", path: str, context: int, options: Options) -> None:
    """Send the anonymous memory after the load, and the bytes of mapped files that the last tokens touched."""
    backend = OpenVINO.load(ModelFolder.open(path), "CPU", options)
    loaded = anonymous_memory()
    prompt = random_prompt(backend, context - _REPLY, 1)
    for written, _ in enumerate(backend.generate(Request((prompt,), (), SamplingParams(max_new_tokens=_REPLY)))):
        if written == _REPLY // 2:
            forget_touched_pages()
    pipe.send((loaded, touched_file_pages()))


def measure(path: str, context: int, options: Options) -> MemoryRow:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    child = spawn.Process(target=chat, args=(theirs, path, context, options))
    child.start()
    theirs.close()
    with PeakSampler(lambda: anonymous_memory(child.pid or 0), _EVERY) as watch:
        loaded, file = ours.recv()
        child.join()
    kv_precision, cores = options.kv_precision or "u8", psutil.cpu_count(logical=False)
    folder = ModelFolder.open(path)
    mapped = find_mapped_weights(folder, "CPU", options)
    need = estimate(folder.manifest, "CPU", context, kv_precision, options.threads or cores, mapped=mapped)
    estimated = need.peak - need.mapped
    error = estimated / watch.value - 1
    return MemoryRow(path, context, kv_precision, loaded, watch.value, file, need.mapped, estimated, error)


def main() -> None:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--kv-precision", default="u8")
    parser.add_argument("--precision", help="f32 or bf16; the default is what the CPU is best at")
    parser.add_argument("--threads", type=int, help="of the engine; the default is a thread a core")
    parser.add_argument("--no-kernel", action="store_true", help="without our int4 kernel, where it is built")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    args = parser.parse_args()
    kernel = False if args.no_kernel else None
    options = Options(
        kv_precision=args.kv_precision, precision=args.precision, threads=args.threads, int4_kernel=kernel
    )
    for folder in args.folders:
        row = measure(folder, args.context, options)
        if args.json:
            print(json.dumps(asdict(row)), flush=True)
            continue
        sizes = (
            f"{name} {getattr(row, name) / 1e6:,.0f} MB" for name in ("loaded", "peak", "file", "mapped", "estimate")
        )
        print(
            f"{folder} at {row.context:,} tokens, KV {row.kv_precision}: {', '.join(sizes)}, {row.error:+.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
