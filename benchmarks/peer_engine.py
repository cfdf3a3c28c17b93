"""One engine in a process of its own, for benchmarks/peers.py: it loads a model and then reads prompts.

    PYTHON benchmarks/peer_engine.py edge|genai|llama MODEL
    PYTHON benchmarks/peer_engine.py quantize GGUF GGUF Q4_0

A line of JSON goes out when the model is loaded, and one for each that comes in. It runs in each engine's own Python,
so that only `edge` and `genai` may import anything of this project's.
"""

import json
import os
import sys
import time
from collections.abc import Callable

Times = Callable[[str, list[int], int], list[float]]  # a prompt, as text and as ids; when each new token came
CONTEXT = 4096
CORES = os.cpu_count() or 1


def edge(model: str) -> tuple[Times, str]:
    from runtime.backends.backend import Delta, Options, Request
    from runtime.backends.openvino import OpenVINO
    from runtime.model_folder import ModelFolder
    from runtime.sampling import Sampling
    from runtime.version import VERSION

    backend = OpenVINO.load(ModelFolder.open(model), "CPU", Options())

    def times(text: str, ids: list[int], count: int) -> list[float]:
        found: list[float] = []
        for part in backend.generate(Request((text,), (), Sampling(max_new_tokens=count))):
            if isinstance(part, Delta):
                found += [time.perf_counter()] * part.tokens
        return found

    return times, VERSION


def genai(model: str) -> tuple[Times, str]:
    import numpy as np
    import openvino
    import openvino_genai

    pipeline = openvino_genai.LLMPipeline(model, "CPU")
    running = openvino_genai.StreamingStatus.RUNNING

    def times(text: str, ids: list[int], count: int) -> list[float]:
        found: list[float] = []

        class Streamer(openvino_genai.StreamerBase):  # type: ignore[misc]
            def write(self, token: int | list[int]) -> object:
                found.extend([time.perf_counter()] * (1 if isinstance(token, int) else len(token)))
                return running

            def end(self) -> None:
                pass

        config = openvino_genai.GenerationConfig(max_new_tokens=count, ignore_eos=True, apply_chat_template=False)
        pipeline.generate(openvino.Tensor(np.array([ids])), config, Streamer())
        return found

    return times, openvino_genai.__version__


def llama(model: str) -> tuple[Times, str]:
    import llama_cpp

    loaded = llama_cpp.Llama(model, n_ctx=CONTEXT, n_threads=CORES, n_threads_batch=CORES, verbose=False)
    features = [part.strip() for part in llama_cpp.llama_print_system_info().decode().split("|")]
    used = ", ".join(part.split(" = ")[0].removeprefix("CPU : ") for part in features if part.endswith(" = 1"))

    def times(text: str, ids: list[int], count: int) -> list[float]:
        found: list[float] = []
        for _ in loaded.generate(ids, temp=0.0):
            found.append(time.perf_counter())
            if len(found) == count:
                break
        return found

    return times, f"llama-cpp-python {llama_cpp.__version__}: {used}"


def quantize(source: str, target: str, form: str) -> None:
    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{form}")
    params.nthread = CORES
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), params):
        raise SystemExit("llama.cpp could not quantize the model")


def main() -> None:
    if sys.argv[1] == "quantize":
        return quantize(*sys.argv[2:])
    answers = os.fdopen(os.dup(1), "w")  # engines print to the standard output, too
    os.dup2(2, 1)
    start = time.perf_counter()
    times, about = {"edge": edge, "genai": genai, "llama": llama}[sys.argv[1]](sys.argv[2])
    print(json.dumps({"load": time.perf_counter() - start, "about": about}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        start = time.perf_counter()
        found = times(asked["text"], asked["ids"], asked["new_tokens"])
        rate = (len(found) - 1) / (found[-1] - found[0])
        print(json.dumps({"ttft": found[0] - start, "decode": rate}), file=answers, flush=True)


if __name__ == "__main__":
    main()
