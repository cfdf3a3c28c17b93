"""An engine in a process of its own, for benchmarks/peers.py: it loads a model, and times prompts and replies.

    PYTHON benchmarks/peer_engine.py edge|genai|llama MODEL THREADS PROPERTIES
    PYTHON benchmarks/peer_engine.py quantize GGUF GGUF Q4_0

It prints a line of JSON when the model is loaded, and one for each line that it reads. It runs in each engine's own
Python, so only `edge` and `genai` may import modules of this project.
"""

import json
import os
import sys
import time
from collections.abc import Callable

CONTEXT = 4096
Clock = Callable[[], None]  # called at each new token
Generate = Callable[
    [str, list[int], int, Clock], None
]  # a prompt as text and as ids, and the number of tokens to generate


def edge(model: str, threads: int, properties: dict[str, object]) -> tuple[Generate, str]:
    from runtime.backends.backend import Delta, Options, Request
    from runtime.backends.openvino.paged.batched import OpenVINO
    from runtime.folder.model_folder import ModelFolder
    from runtime.sampling import SamplingParams
    from runtime.version import VERSION

    backend = OpenVINO.load(ModelFolder.open(model), "CPU", Options(threads=threads))

    def generate(text: str, ids: list[int], count: int, clock: Clock) -> None:
        for part in backend.generate(Request((text,), (), SamplingParams(max_new_tokens=count))):
            if isinstance(part, Delta):
                clock()

    return generate, VERSION


def genai(model: str, threads: int, properties: dict[str, object]) -> tuple[Generate, str]:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # its import would send telemetry
    import numpy as np
    import openvino
    import openvino_genai

    pipeline = openvino_genai.LLMPipeline(model, "CPU", INFERENCE_NUM_THREADS=threads, **properties)

    def generate(text: str, ids: list[int], count: int, clock: Clock) -> None:
        class ClockStreamer(openvino_genai.StreamerBase):  # type: ignore[misc]
            def write(self, token: int | list[int]) -> object:
                clock()
                return openvino_genai.StreamingStatus.RUNNING

            def end(self) -> None:
                pass

        config = openvino_genai.GenerationConfig(max_new_tokens=count, ignore_eos=True, apply_chat_template=False)
        pipeline.generate(openvino.Tensor(np.array([ids])), config, ClockStreamer())

    return generate, openvino_genai.__version__


def llama(model: str, threads: int, properties: dict[str, object]) -> tuple[Generate, str]:
    import llama_cpp

    loaded = llama_cpp.Llama(model, n_ctx=CONTEXT, n_threads=threads, n_threads_batch=threads, verbose=False)
    features = [part.strip() for part in llama_cpp.llama_print_system_info().decode().split("|")]
    used = ", ".join(part.split(" = ")[0].removeprefix("CPU : ") for part in features if part.endswith(" = 1"))

    def generate(text: str, ids: list[int], count: int, clock: Clock) -> None:
        tokens = loaded.generate(ids, temp=0.0)
        for _ in range(count):
            next(tokens)
            clock()

    return generate, f"llama-cpp-python {llama_cpp.__version__}: {used}"


def quantize(source: str, target: str, form: str) -> None:
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{form}")
    params.nthread = os.cpu_count() or 1
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), params):
        raise SystemExit("llama.cpp could not quantize the model")


def main() -> None:
    """Run the benchmark that the command line describes."""
    if sys.argv[1] == "quantize":
        return quantize(*sys.argv[2:])
    responses = os.fdopen(os.dup(1), "w")  # engines also print to standard output
    os.dup2(2, 1)
    start = time.perf_counter()
    name, model, threads, properties = sys.argv[1:]
    engine = {"edge": edge, "genai": genai, "llama": llama}[name]
    generate, about = engine(model, int(threads), json.loads(properties))
    print(json.dumps({"load": time.perf_counter() - start, "about": about}), file=responses, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        times = [(time.perf_counter(), time.process_time())]
        generate(
            request["text"],
            request["ids"],
            request["new_tokens"],
            lambda: times.append((time.perf_counter(), time.process_time())),  # noqa: B023
        )
        (start, start_cpu), (first, first_cpu), *_, (last, last_cpu) = times
        steps = len(times) - 2
        found = {
            "ttft": first - start,
            "ttft_cpu": first_cpu - start_cpu,
            "decode": steps / (last - first),
            "token_cpu": (last_cpu - first_cpu) / steps,
        }
        print(json.dumps(found), file=responses, flush=True)


if __name__ == "__main__":
    main()
