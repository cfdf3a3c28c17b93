"""The worker of GrammarAdmission: compiles a grammar as the engine would, over a graph without weights.

GenAI compiles a grammar inside the step that all requests share, and one that it rejects there breaks its pipeline for
good. It has no compiler that could be called by itself; but a pipeline over any graph with as many logits as the
vocabulary has tokens runs the same code, with the same tokenizer.
"""

import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ....errors import EdgeError, RequestError
from ....folder.model_folder import ModelFolder
from ....grammar.grammar import Grammar, JsonObject, to_tree
from ....grammar.printers.ebnf import EngineGrammar, to_ebnf
from ....sampling import SamplingParams
from ....system.files import read_model_properties
from ....system.heap import allocated_bytes
from ...backend import Request
from ..genai import generation_config, map_error

_HIDDEN = 32  # one head
_LEAST = 1 << 16  # bytes of a grammar; what it takes is measured with the request around it


def serve(pipe: "Connection[Any, Any]") -> None:
    """Compile grammars until the pipe is closed: receive one, send it back as admitted, or an error. Before each,
    "ready"."""
    engine = _GrammarCompiler(pipe.recv())
    while True:
        pipe.send("ready")
        grammar = pipe.recv()
        try:
            pipe.send(engine.compile(grammar))
        except EdgeError as exc:
            pipe.send(exc)
            engine.start()


class _GrammarCompiler:
    def __init__(self, folder: ModelFolder) -> None:
        import openvino_genai as genai

        self._config = (folder.path / "config.json").read_bytes()
        self._vocab = _vocabulary(folder)
        self._graph = _graph(self._vocab)
        self._tokenizer = genai.Tokenizer(
            str(folder.path), read_model_properties(folder.path / "openvino_tokenizer.bin")
        )
        self.start()
        self.compile(JsonObject())  # what the first grammar takes is the compiler's own

    def start(self) -> None:
        """Start a new pipeline: the last one was broken by the grammar that it rejected."""
        import openvino as ov
        import openvino_genai as genai

        scheduler = genai.SchedulerConfig()
        scheduler.num_kv_blocks = 1
        self._requests = 0
        with tempfile.TemporaryDirectory(
            prefix="glm4-edge-", ignore_cleanup_errors=True
        ) as place:  # gone at once: this process may be killed
            ov.save_model(self._graph, str(Path(place, "openvino_model.xml")))
            Path(place, "config.json").write_bytes(self._config)
            settings = {"INFERENCE_NUM_THREADS": 1, "ENABLE_MMAP": False}
            self._pipeline = genai.ContinuousBatchingPipeline(place, self._tokenizer, scheduler, "CPU", **settings)

    def compile(self, grammar: Grammar) -> tuple[EngineGrammar, int, float]:
        """Return the grammar in the engine's form, the bytes that it occupies and the CPU seconds that it took. Raises
        RequestError if it does not compile."""
        import numpy as np
        import openvino as ov

        try:
            printed = to_ebnf(to_tree(grammar))
        except RecursionError as exc:
            raise RequestError("the grammar is nested too deeply", hint="nest it less") from exc
        request = Request((), (), SamplingParams(max_new_tokens=1), printed)
        self._requests += 1
        before, start = allocated_bytes(), time.process_time()
        try:
            config = generation_config(request, {0}, 1)
            handle = self._pipeline.add_request(self._requests, ov.Tensor(np.zeros((1, 1), dtype=np.int64)), config)
            while self._pipeline.has_non_finished_requests():
                self._pipeline.step()
            handle.read_all()
        except RuntimeError as exc:
            raise map_error(exc, request) from exc
        taken = time.process_time() - start
        del handle, config
        return printed, max(allocated_bytes() - before, _LEAST), taken


def _vocabulary(folder: ModelFolder) -> int:
    """Return the number of the model's logits. Early model folders do not record it."""
    if folder.manifest.sizes is not None:
        return folder.manifest.sizes.vocab
    import openvino as ov

    model = ov.Core().read_model(str(folder.path / "openvino_model.xml"))
    return int(model.output(0).get_partial_shape()[-1].get_length())


def _graph(vocab: int) -> Any:
    """Build a decoder of one layer and one head whose logits are all equal, in a form that PagedAttention accepts."""
    import numpy as np
    import openvino as ov
    from openvino import opset6, opset13
    from openvino.op.util import Variable, VariableInfo

    def i64(*values: int) -> Any:
        return opset13.constant(np.array(values, dtype=np.int64))

    def parameter(name: str, shape: list[int], kind: Any = ov.Type.i64) -> Any:
        made = opset13.parameter(ov.PartialShape(shape), kind, name=name)
        made.output(0).get_tensor().set_names({name})
        return made

    zero = opset13.constant(np.float32(0))
    ids, mask = parameter("input_ids", [-1, -1]), parameter("attention_mask", [-1, -1])
    positions, beams = parameter("position_ids", [-1, -1]), parameter("beam_idx", [-1], ov.Type.i32)
    batch = opset13.gather(opset13.shape_of(ids), i64(0), i64(0))
    table = opset13.constant(np.zeros((1, _HIDDEN), dtype=np.float32))
    hidden = opset13.gather(table, opset13.multiply(ids, i64(0)), i64(0))
    place = opset13.unsqueeze(opset13.convert(positions, "f32"), i64(-1))
    hidden = opset13.add(hidden, opset13.multiply(place, zero))
    heads = opset13.transpose(opset13.reshape(hidden, i64(0, 0, 1, _HIDDEN), True), i64(0, 2, 1, 3))
    sinks, states = [], []
    for name in ("past_key_values.0.keypresent.0.key", "past_key_values.0.valuepresent.0.value"):
        info = VariableInfo()
        info.data_shape, info.data_type, info.variable_id = ov.PartialShape([-1, 1, -1, _HIDDEN]), ov.Type.f32, name
        variable = Variable(info)
        empty = opset13.broadcast(zero, opset13.concat([batch, i64(1), i64(0), i64(_HIDDEN)], 0))
        past = opset13.gather(opset6.read_value(empty, variable), beams, i64(0))
        states.append(opset13.concat([past, heads], 2))
        sinks.append(opset6.assign(states[-1], variable))
    attention = opset13.unsqueeze(opset13.multiply(opset13.convert(mask, "f32"), zero), i64(1, 2))
    read = opset13.scaled_dot_product_attention(
        heads, *states, attention, opset13.constant(np.float32(1)), causal=False
    )
    read = opset13.reshape(opset13.transpose(read, i64(0, 2, 1, 3)), i64(0, 0, _HIDDEN), True)
    total = opset13.reduce_sum(read, i64(-1), keep_dims=True)
    shape = opset13.concat([opset13.shape_of(ids), i64(vocab)], 0)
    logits = opset13.broadcast(total, shape)
    logits.output(0).get_tensor().set_names({"logits"})
    return ov.Model([opset13.result(logits)], sinks, [ids, mask, positions, beams], "trial")
