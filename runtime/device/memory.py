"""Estimates of the memory that a model takes on a device.

Measured on CPUs with `benchmarks/memory.py`. For GPUs and NPUs the rules are Intel's and ours, and were not measured.
"""

from dataclasses import dataclass, replace

from ..errors import DeviceError
from ..folder.manifest import Manifest, ModelSizes
from ..text import quoted

CONTEXT = 8192  # tokens for which memory is planned by default
# Tokens of a prompt that one step computes when nothing else runs. A CPU reads 128 at the rate of 512, and fewer take
# longer if it has AMX; a GPU needs more to be busy (docs/measured.md). 512 is the chunk of the NPU's static pipeline.
CHUNK_TOKENS = {"CPU": 128, "GPU": 512, "NPU": 512}
LARGEST_ALLOCATION = (
    4_294_959_104  # bytes; the largest allocation of Intel's GPU drivers, if the device does not report one
)
_PROCESS_BYTES = 75 * 2**20  # bytes: Python, OpenVINO
_BYTES_PER_VOCAB_TOKEN = 360  # its bytes object and its entry in tables
_BYTES_PER_LAYER = 2_000_000  # in the compiled graph
_SCALE_BYTES = 6  # the CPU plugin keeps the f16 scale of an int4 group twice in f32, as well
_BYTES_PER_KV_VECTOR = 8  # scale and zero point of each vector in a quantized cache
_KEY_BLOCK = 32  # tokens whose keys share scales and zero points on a CPU, which are those of channels
_BYTES_PER_CONTEXT_TOKEN = 350  # of the pipeline and of the first thread's attention scores
_SCORE_BYTES_PER_THREAD = (
    800  # per context token, for each further thread (measured with 32 heads and at most two threads)
)
_DEFAULT_THREADS = 8  # if their number is unknown
# Quarters of an image tower's weights that it takes: the fifth is for activations, which are 0.6 GB in f32 and 0.4 GB
# in bf16 for GLM-4V's 6,401 patches, and for convolutions, which the CPU plugin keeps in f32.
_TOWER_PARTS = 5
_KV_BITS = {"f32": 32, "f16": 16, "bf16": 16, "u8": 8, "i8": 8, "u4": 4, "i4": 4}


@dataclass(frozen=True, slots=True)
class MappedWeights:
    """Int4 weights that are read from the mapped file as they lie there, in place of repacked ones: the bytes of the
    matrices with their scales, and the number of these."""

    nbytes: int
    groups: int


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes of memory. `loading` is the peak while the model loads, `largest` the largest allocation; `tower` is for
    the image tower of a vision model, while it reads a picture. `mapped` are pages of the file that every token reads:
    the system can take them back, but then reads them again from the disk."""

    program: int
    weights: int
    kv_cache: int
    activations: int
    loading: int
    largest: int
    tower: int = 0
    mapped: int = 0

    @property
    def running(self) -> int:
        """Bytes while the model is used, and reads a picture."""
        return self.program + self.weights + self.mapped + self.kv_cache + self.activations + self.tower

    @property
    def peak(self) -> int:
        """Bytes at most, while it is loaded or used."""
        return max(self.running, self.loading)


def estimate(
    manifest: Manifest,
    kind: str,
    context: int,
    kv_precision: str | None = None,
    threads: int | None = None,
    *,
    mapped: MappedWeights | None = None,
) -> MemoryEstimate:
    """Estimate the memory of a model on a device of this `kind` (CPU, GPU or NPU), with `context` tokens in its KV
    cache and, on a CPU, this number of threads. `mapped` are the weights that the int4 kernel reads, where it is
    used."""
    found = estimate_from_sizes(
        recorded_sizes(manifest),
        kind,
        context,
        manifest.kv_bytes_per_token,
        kv_precision,
        threads=threads,
        mapped=mapped,
    )
    return replace(found, tower=tower_memory(manifest.vision.nbytes)) if manifest.vision else found


def tower_memory(nbytes: int) -> int:
    """Return the memory of an image tower whose weights have so many bytes, while it reads a picture."""
    return nbytes * _TOWER_PARTS // 4


def recorded_sizes(manifest: Manifest) -> ModelSizes:
    """Return the sizes recorded in the manifest. Earlier versions recorded only the size of the weights."""
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
    mapped: MappedWeights | None = None,
) -> MemoryEstimate:
    """Estimate as `estimate` does. `kv_bytes_per_token` is for an f16 cache.

    The CPU plugin repacks the matrices into memory of its own, one by one, when the first prompt reaches them; the
    pages of the file need not stay. Rows of the embedding are read from the file. Attention unpacks keys and values to
    the type it computes in, at most f32, into buffers that all layers share, and each thread has scores for the whole
    context (`_qk_scratch_b`, `_wv_scratch_b` and `_weight` of the plugin's executor_pa.cpp, which is kept once for each
    type in paged_attn.cpp). A GPU keeps all weights, and has them twice while loading. An NPU has an f16 cache for the
    prompt's model and another one for the reply's.
    """
    precision = kv_precision or ("f16" if kind == "NPU" else "u8")
    if precision not in _KV_BITS:
        raise DeviceError(
            f"unknown KV cache precision {quoted(precision)}", hint=f"choose one of {', '.join(_KV_BITS)}"
        )
    vectors = sizes.layers * sizes.kv_heads * _BYTES_PER_KV_VECTOR
    # Keys are half of the cache, in f16: a quarter of its bytes are their number.
    keys = kv_bytes_per_token // 4 * _BYTES_PER_KV_VECTOR // _KEY_BLOCK if kind == "CPU" else vectors
    scales = vectors + keys if _KV_BITS[precision] < 16 else 0
    kv_cache = context * (kv_bytes_per_token * _KV_BITS[precision] // 16 + scales)
    chunk = min(context, CHUNK_TOKENS[kind])
    activations = 4 * (chunk * (3 * sizes.ffn + 4 * sizes.hidden) + 2 * sizes.vocab)
    program = _PROCESS_BYTES + sizes.vocab * _BYTES_PER_VOCAB_TOKEN + sizes.layers * _BYTES_PER_LAYER
    if kind == "CPU":
        kept = mapped or MappedWeights(0, 0)
        weights = sizes.weights - sizes.embedding_bytes - kept.nbytes + _SCALE_BYTES * (sizes.groups - kept.groups)
        activations += 4 * chunk * (2 * sizes.ffn + 4 * sizes.hidden)  # in f32; in bf16 they are not there
        unpacked = 2 * kv_bytes_per_token // max(sizes.layers, 1)
        activations += context * (
            unpacked + _BYTES_PER_CONTEXT_TOKEN + _SCORE_BYTES_PER_THREAD * ((threads or _DEFAULT_THREADS) - 1)
        )
        return MemoryEstimate(program, weights, kv_cache, activations, 0, sizes.largest, mapped=kept.nbytes)
    copies = 2 if kind == "NPU" else 1
    running = program + sizes.weights + copies * kv_cache + activations
    loading = max(running, program + 2 * sizes.weights)
    return MemoryEstimate(program, sizes.weights, copies * kv_cache, activations, loading, sizes.largest)


def longest_context(
    manifest: Manifest,
    kind: str,
    free: int,
    kv_precision: str | None = None,
    threads: int | None = None,
    *,
    mapped: MappedWeights | None = None,
) -> int:
    """Return the longest context that fits into `free` bytes, in steps of 256 tokens; 0 if the model does not fit."""
    low, high = 0, manifest.context_length // 256
    while low < high:
        middle = (low + high + 1) // 2
        if estimate(manifest, kind, 256 * middle, kv_precision, threads, mapped=mapped).peak <= free:
            low = middle
        else:
            high = middle - 1
    return 256 * low


def format_bytes(nbytes: float) -> str:
    """Return a size for messages, in GB or MB."""
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.1f} MB"
