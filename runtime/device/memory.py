"""How much memory a model takes on a device: the one place where it is estimated.

Measured on CPUs by `benchmarks/memory.py`. For GPUs and NPUs the rules are Intel's and ours, and were not measured.
"""

from dataclasses import dataclass

from ..errors import DeviceError
from ..folder.model_folder import Manifest, ModelSizes
from ..text import quoted

CONTEXT = 8192  # tokens for which memory is planned where no number is given
# Tokens of a prompt that one step computes when nothing else runs. A CPU reads 128 at the rate of 512, and fewer take
# longer if it has AMX; a GPU needs more to be busy (docs/measured.md). 512 is the chunk of the NPU's static pipeline.
CHUNK_TOKENS = {"CPU": 128, "GPU": 512, "NPU": 512}
LARGEST_ALLOCATION = 4_294_959_104  # bytes that Intel's GPU drivers give at once, where the device does not say
_PROCESS_BYTES = 60 * 2**20  # Python, OpenVINO
_BYTES_PER_VOCAB_TOKEN = 200  # of the vocabulary: its bytes object and its place in a table
_BYTES_PER_LAYER = 700_000  # of the compiled graph
_SCALE_BYTES = 6  # the CPU plugin keeps the f16 scale of an int4 group twice, in f32
_BYTES_PER_KV_VECTOR = 8  # bytes of scale and zero point for each vector of a quantised cache
_BYTES_PER_CONTEXT_TOKEN = 350  # bytes for each token in the context, of the pipeline and of the first thread's scores
_SCORE_BYTES_PER_THREAD = (
    800  # bytes for each of them and each further thread (measured with 32 heads, and two threads at most)
)
_DEFAULT_THREADS = 8  # where their number is not known
_KV_BITS = {"f32": 32, "f16": 16, "bf16": 16, "u8": 8, "i8": 8, "u4": 4, "i4": 4}


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes. `loading` is what it takes for a moment while it loads, `largest` the biggest piece at once."""

    program: int
    weights: int
    kv_cache: int
    activations: int
    loading: int
    largest: int

    @property
    def running(self) -> int:
        return self.program + self.weights + self.kv_cache + self.activations

    @property
    def peak(self) -> int:
        return max(self.running, self.loading)


def estimate(
    manifest: Manifest, kind: str, context: int, kv_precision: str | None = None, threads: int | None = None
) -> MemoryEstimate:
    """What the model takes on a device of this `kind` (CPU, GPU or NPU) with `context` tokens in its KV cache, and so
    many threads on a CPU."""
    return estimate_from_sizes(
        recorded_sizes(manifest), kind, context, manifest.kv_bytes_per_token, kv_precision, threads=threads
    )


def recorded_sizes(manifest: Manifest) -> ModelSizes:
    """Folders of earlier versions tell only the size of the weights."""
    file = manifest.files.get("openvino_model.bin")
    return manifest.sizes or ModelSizes(weights=file.size if file else 0)


def estimate_from_sizes(
    sizes: ModelSizes,
    kind: str,
    context: int,
    kv_bytes_per_token: int,
    kv_precision: str | None = None,
    *,
    threads: int | None = None,
) -> MemoryEstimate:
    """As `need`. `kv_bytes_per_token` is for an f16 cache.

    On the CPU the matrices are repacked into memory of their own, one by one as the first prompt comes to them; the
    file's pages need not stay. The embedding's rows are read in the file. Attention reads keys and values unpacked to
    the type that it computes in, f32 at most, into buffers that all layers share; and each thread has scores for the
    whole context (`_qk_scratch_b`, `_wv_scratch_b` and `_weight` of the plugin's executor_pa.cpp, which is kept once
    for each type in paged_attn.cpp). A GPU holds all of the weights, and for a moment twice; an NPU has the cache in
    f16, once for the prompt's model and once for the reply's.
    """
    precision = kv_precision or ("f16" if kind == "NPU" else "u8")
    if precision not in _KV_BITS:
        raise DeviceError(f"a KV cache of {quoted(precision)} is not known", hint=f"known: {', '.join(_KV_BITS)}")
    vectors = 2 * sizes.layers * sizes.kv_heads * (_BYTES_PER_KV_VECTOR if _KV_BITS[precision] < 16 else 0)
    kv_cache = context * (kv_bytes_per_token * _KV_BITS[precision] // 16 + vectors)
    chunk = min(context, CHUNK_TOKENS[kind])
    activations = 4 * (chunk * (3 * sizes.ffn + 4 * sizes.hidden) + 2 * sizes.vocab)
    program = _PROCESS_BYTES + sizes.vocab * _BYTES_PER_VOCAB_TOKEN + sizes.layers * _BYTES_PER_LAYER
    if kind == "CPU":
        weights = sizes.weights - sizes.embedding_bytes + _SCALE_BYTES * sizes.groups
        unpacked = 2 * kv_bytes_per_token // max(sizes.layers, 1)
        activations += context * (
            unpacked + _BYTES_PER_CONTEXT_TOKEN + _SCORE_BYTES_PER_THREAD * ((threads or _DEFAULT_THREADS) - 1)
        )
        return MemoryEstimate(program, weights, kv_cache, activations, 0, sizes.largest)
    copies = 2 if kind == "NPU" else 1
    running = program + sizes.weights + copies * kv_cache + activations
    loading = max(running, program + 2 * sizes.weights)
    return MemoryEstimate(program, sizes.weights, copies * kv_cache, activations, loading, sizes.largest)


def longest_context(
    manifest: Manifest, kind: str, free: int, kv_precision: str | None = None, threads: int | None = None
) -> int:
    """The most tokens that fit into `free` bytes, in steps of 256; 0 where the model does not fit at all."""
    low, high = 0, manifest.context_length // 256
    while low < high:
        middle = (low + high + 1) // 2
        if estimate(manifest, kind, 256 * middle, kv_precision, threads).peak <= free:
            low = middle
        else:
            high = middle - 1
    return 256 * low


def format_bytes(nbytes: float) -> str:
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.1f} MB"
