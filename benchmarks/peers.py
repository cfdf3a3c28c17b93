"""edge and its peers, compared on one checkpoint and this machine.

    python -m benchmarks.make_checkpoint CHECKPOINT --layers 4 --tokenizer GLM-4
    python -m benchmarks.peers CHECKPOINT SCRATCH --optimum PYTHON --llama PYTHON --llama-cpp SOURCE

Conversion: `edge convert`, optimum-cli, and llama.cpp's convert_hf_to_gguf.py with its quantization, each as a command
in a folder of its own. Inference: this project's runtime, bare OpenVINO GenAI on the same folder, and llama.cpp on its
files, each in a new process, with the same random prompts. The contenders alternate, and each round begins with another
one. A peer whose Python is not given is left out, and the report says so. On a machine that does other work, compare
the CPU seconds with `--threads 1`: threads that wait for one another waste CPU time. edge uses its int4 kernel if `edge
kernel` has built it.

Memory is the peak of anonymous memory; for inference, the pages of the model's file that the last tokens read are shown
beside it. The memory bandwidth is that of a maximum over 1 GiB by as many threads, the better of before and after.
optimum-cli and llama.cpp do not verify their conversions; edge does, within its time. onnxruntime-genai is left out:
the builder of version 0.18 supports only ChatGLMModel of GLM's formats, by running code from the checkpoint.

Linux only. SCRATCH receives the converted models, report.json, report.md and the charts.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edge.bench import random_prompt
from runtime.checkpoint.tokenizer import read_tokenizer
from runtime.folder.model_folder import ModelFolder

from .peers_report import PROMPTS, ConversionCost, EngineSpeed, charts, markdown
from .process import PeakSampler, anonymous_memory, disk_usage, forget_touched_pages, run_measured, touched_file_pages

ENGINE = Path(__file__).with_name("peer_engine.py")
ROOT = ENGINE.parents[1]
GGUF = ("Q4_0", "Q4_K_M")


@dataclass(frozen=True, slots=True)
class Conversion:
    """A conversion: `commands` write `model` to `folder`, and leave the file `scrap`, which is removed."""

    name: str
    folder: Path
    commands: tuple[tuple[str, ...], ...]
    model: str
    scrap: str = ""


@dataclass(frozen=True, slots=True)
class Contender:
    """An engine of peer_engine.py with the Python that has it, and its model, of which each token reads so many bytes.

    `properties` are OpenVINO's, in JSON.
    """

    name: str
    python: str
    engine: str
    model: Path
    bytes_per_token: int = 0
    properties: str = "{}"


def conversions(args: argparse.Namespace) -> Iterator[Conversion]:
    source, scratch = str(args.checkpoint), args.scratch
    edge = (sys.executable, "-m", "edge", "convert", source, str(scratch / "edge" / "model"), "--recipe", args.recipe)
    yield Conversion("edge convert", scratch / "edge", (edge,), "model")
    if args.optimum:
        # The compression of the recipe int4.
        options = "--task text-generation-with-past --weight-format int4 --sym --group-size 128 --ratio 1.0".split()
        tool = str(Path(args.optimum).with_name("optimum-cli"))
        command = (tool, "export", "openvino", "-m", source, *options, str(scratch / "optimum" / "model"))
        yield Conversion("optimum-cli", scratch / "optimum", (command,), "model")
    if args.llama and args.llama_cpp:
        script = str(args.llama_cpp / "convert_hf_to_gguf.py")
        for form in GGUF:
            folder = scratch / form
            whole, model = str(folder / "whole.gguf"), str(folder / "model.gguf")
            commands = (
                (args.llama, script, source, "--outfile", whole),
                (args.llama, str(ENGINE), "quantize", whole, model, form),
            )
            yield Conversion(f"llama.cpp {form}", folder, commands, "model.gguf", "whole.gguf")


def convert(conversion: Conversion) -> ConversionCost:
    """Run a conversion in an empty folder, which also has its temporary files."""
    shutil.rmtree(conversion.folder, ignore_errors=True)
    temporary = conversion.folder / "temporary"
    temporary.mkdir(parents=True)
    environment = {"TMPDIR": str(temporary), "HF_HOME": str(temporary), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    taken = run_measured(conversion.commands, conversion.folder, environment)
    shutil.rmtree(temporary)
    if conversion.scrap:
        (conversion.folder / conversion.scrap).unlink()
    size = disk_usage(conversion.folder)
    return ConversionCost(taken.seconds, taken.cpu, taken.anonymous, taken.disk - size, size)


def contenders(args: argparse.Namespace) -> Iterator[Contender]:
    folder = args.scratch / "edge" / "model"
    sizes = ModelFolder.open(folder).manifest.sizes
    assert sizes is not None
    for name, engine in (("edge", "edge"), ("OpenVINO GenAI", "genai")):
        yield Contender(name, sys.executable, engine, folder, sizes.weights - sizes.embedding_bytes)
    if args.llama:
        for form in GGUF:
            if (model := args.scratch / form / "model.gguf").is_file():
                # A token reads one row of the embedding, which has 4.5 bits a weight, as the layers; the head has 6.6.
                gathered = sizes.vocab * sizes.hidden * 4.5 / 8
                yield Contender(f"llama.cpp {form}", args.llama, "llama", model, int(model.stat().st_size - gathered))


class TokenCounter:
    """A token counter with the one method of a backend that `random_prompt` needs."""

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        self.encode = encode

    def count_tokens(self, prompt: Sequence[str]) -> int:
        """Return the number of a prompt's tokens."""
        return sum(len(self.encode(piece)) for piece in prompt)


def measure_speed(
    contender: Contender, tokens: Any, seed: int, new_tokens: int, threads: int, *, prompts: Sequence[int] = PROMPTS
) -> EngineSpeed:
    """Load the model in a new process, and time a prompt and a reply for each prompt length."""
    process = subprocess.Popen(
        [contender.python, str(ENGINE), contender.engine, str(contender.model), str(threads), contender.properties],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    ask, answers = process.stdin, process.stdout

    def answer() -> dict[str, Any]:
        if not (line := answers.readline()):
            raise SystemExit(f"{contender.name} ended with {process.wait()} before it answered")
        found: dict[str, Any] = json.loads(line)
        return found

    def times(count: int, new: int) -> dict[str, Any]:
        text = random_prompt(tokens, count, seed)
        print(json.dumps({"text": text, "ids": tokens.encode(text), "new_tokens": new}), file=ask, flush=True)
        return answer()

    try:
        with PeakSampler(lambda: anonymous_memory(process.pid)) as peak:
            loaded = answer()
            times(16, 4)  # warm-up
            found = [times(count, new_tokens) for count in prompts]
            forget_touched_pages(process.pid)
            times(16, 8)
            touched = touched_file_pages(process.pid)
    finally:
        process.kill()
        process.wait()
    figures: dict[str, list[float]] = {key: [one[key] for one in found] for key in found[0]}
    return EngineSpeed(loaded["load"], **figures, anonymous=peak.value, touched=touched, about=loaded["about"])


def measure_bandwidth(threads: int) -> float:
    """Return the bytes per second that so many threads read together."""
    values = np.ones(2**27)
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(5):
            start = time.perf_counter()
            list(pool.map(np.max, np.array_split(values, threads)))
            best = max(best, values.nbytes / (time.perf_counter() - start))
    return best


def alternate(contenders: Sequence[Any], rounds: int, measure: Callable[[Any, int], Any]) -> dict[str, list[Any]]:
    """Return what `measure` returns for each contender and round; each round begins with another contender."""
    found: dict[str, list[Any]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        for i in range(len(contenders)):
            contender = contenders[(i + number) % len(contenders)]
            found[contender.name].append(measure(contender, number))
            print(f"{number + 1}/{rounds} {contender.name}: {found[contender.name][-1]}", file=sys.stderr, flush=True)
    return found


def describe_machine(threads: int) -> dict[str, Any]:
    """Return the facts about this machine and its packages that the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    wanted = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")
    return {
        "cpu": facts.get("model name", platform.processor()),
        "cores": os.cpu_count(),
        "threads": threads,
        "features": [name for name in wanted if name in facts.get("flags", "").split()],
        "versions": {name: version(name) for name in ("openvino", "openvino-genai", "nncf", "glm4-edge")},
    }


def main() -> int:
    """Run the benchmark that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("scratch", type=Path, help="a folder for the converted models and the report")
    parser.add_argument("--optimum", metavar="PYTHON", help="one with optimum-intel, its optimum-cli beside it")
    parser.add_argument("--llama", metavar="PYTHON", help="one with llama-cpp-python")
    parser.add_argument("--llama-cpp", metavar="SOURCE", type=Path, help="llama.cpp's, for convert_hf_to_gguf.py")
    parser.add_argument("--recipe", default="int4", help="of `edge convert` (int4, which optimum-cli is given, too)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each engine while it runs (all cores)")
    parser.add_argument(
        "--skip-converting", action="store_true", help="use the models that SCRATCH has from an earlier run"
    )
    args = parser.parse_args()
    args.scratch = args.scratch.absolute()
    args.scratch.mkdir(parents=True, exist_ok=True)
    path = args.scratch / "report.json"
    report: dict[str, Any] = {"machine": describe_machine(args.threads), "load_average": [os.getloadavg()]}
    if not args.skip_converting:
        report["conversion"] = alternate(list(conversions(args)), args.rounds, lambda one, _: convert(one))
        report["load_average"].append(os.getloadavg())
    elif path.exists():
        earlier = json.loads(path.read_text())["conversion"]
        report["conversion"] = {name: [ConversionCost(**cost) for cost in costs] for name, costs in earlier.items()}
    path.write_text(json.dumps(report, indent=2, default=asdict))
    engines = list(contenders(args))
    report["read"] = {contender.name: contender.bytes_per_token for contender in engines}
    tokens = TokenCounter(read_tokenizer(args.checkpoint, 2**31).encode)
    report["bandwidth"] = measure_bandwidth(args.threads)
    report["running"] = alternate(
        engines,
        args.rounds,
        lambda contender, seed: measure_speed(contender, tokens, seed, args.new_tokens, args.threads),
    )
    report["bandwidth"] = max(report["bandwidth"], measure_bandwidth(args.threads))
    report["load_average"].append(os.getloadavg())
    path.write_text(json.dumps(report, indent=2, default=asdict))
    text = markdown(report, [name for name in ("optimum", "llama", "llama_cpp") if not getattr(args, name)])
    (args.scratch / "report.md").write_text(text)
    for name, chart in charts(report):
        (args.scratch / f"{name}.svg").write_text(chart)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
