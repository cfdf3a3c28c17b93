"""The graph of a model folder with Int4MatMul in place of its int4 matrix products, over the same file of weights."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, SubElement, parse

from ....device.memory import MappedWeights
from ....errors import BackendError
from .library import GROUP

_SAMPLED = "sampled_tokens_indices"  # the input's name in OpenVINO GenAI
_OPSET = "glm4_edge"  # the operation's, as int4_matmul.cpp has it
_MAX_GRAPH = 64 * 2**20  # bytes of an IR's XML; one of 61 layers has 6 MB


@contextmanager
def rewritten_folder(folder: Path, name: str, *, sampled: bool) -> Iterator[Path | None]:
    """Yield a temporary folder with the graph of this `name` as `rewrite_graph` makes it and links to all other files
    of `folder`; None if Int4MatMul can replace none of its products. Raises BackendError if the folder cannot be
    written."""
    with ExitStack() as undo:
        try:
            scratch = tempfile.TemporaryDirectory(prefix="glm4-edge-", ignore_cleanup_errors=True)
            graph = Path(undo.enter_context(scratch)) / f"{name}.xml"
            replaced = rewrite_graph(folder / graph.name, graph, sampled=sampled)
            for file in folder.iterdir() if replaced else ():
                if file.name != graph.name and file.is_file():
                    os.symlink(file.absolute(), graph.with_name(file.name))
        except OSError as exc:
            raise BackendError(
                f"the rewritten graph cannot be stored in a temporary folder: {exc}", hint="free some disk space"
            ) from exc
        yield graph.parent if replaced else None


def rewrite_graph(source: Path, target: Path, *, sampled: bool) -> int:
    """Write the graph in `source`, an IR's XML, with its int4 products replaced; return how many they were. If there
    are none, nothing is written.

    With `sampled`, the graph computes logits for the tokens alone that its input sampled_tokens_indices names, as GenAI
    makes it where the head is a MatMul (`apply_gather_before_matmul_transformation` in its utils.cpp). Raises OSError.
    """
    tree = parse(source)
    graph = _Graph(tree.getroot())
    products = graph.find_products()
    heads = [product for product in products if graph.makes_logits(product.matmul)] if sampled else []
    if heads and (zero := graph.find_zero(source.with_suffix(".bin"))) is not None:
        graph.gather_sampled_tokens(heads[0].matmul, zero)
    elif heads:
        products.remove(heads[0])
    for product in products:
        graph.replace(product)
    if products:
        graph.remove_unused()
        tree.write(target)
    return len(products)


def count_weights(source: Path) -> MappedWeights | None:
    """Return the weights that the products in `source`, an IR's XML, would read with Int4MatMul; None if there are none
    or the file is damaged, which loading it will tell."""
    try:
        found = source.stat()
        return None if found.st_size > _MAX_GRAPH else _count_weights(source, found.st_mtime_ns, found.st_size)
    except (OSError, ParseError, BackendError, ValueError):
        return None


@lru_cache(maxsize=16)  # a third of a second at 40 layers, and a load asks more than once
def _count_weights(source: Path, _modified: int, _size: int) -> MappedWeights | None:
    products = _Graph(parse(source).getroot()).find_products()
    groups = sum(product.rows * product.groups for product in products)
    return MappedWeights(groups * (GROUP // 2 + 2), groups) if products else None


@dataclass(frozen=True, slots=True)
class _Product:
    """A MatMul, the constants of its weights and scales, and the layers that decompress them."""

    matmul: Element
    weights: Element
    scales: Element
    between: tuple[Element, ...]
    rows: int
    groups: int


class _Graph:
    def __init__(self, root: Element) -> None:
        self._layers, self._edges = _child(root, "layers"), _child(root, "edges")
        self.layers = {_id(layer): layer for layer in self._layers}
        self._into = {(edge.get("to-layer"), edge.get("to-port")): edge for edge in self._edges}
        self._readers: dict[str | None, list[Element]] = {}
        for edge in self._edges:
            self._readers.setdefault(edge.get("from-layer"), []).append(edge)

    def find_products(self) -> "list[_Product]":
        """Return the products that Int4MatMul can replace."""
        return [product for layer in self.layers.values() if (product := self.find_product(layer))]

    def find_product(self, matmul: Element) -> _Product | None:
        """Return a product by int4 weights, symmetric and in groups of 128 columns: MatMul(x, Convert(Reshape(
        Multiply(Convert(weights), scales)))), transposed."""
        if matmul.get("type") != "MatMul" or _child(matmul, "data").attrib != {
            "transpose_a": "false",
            "transpose_b": "true",
        }:
            return None
        found: list[Element] = []
        layer = matmul
        for port, wanted in (("1", "Convert"), ("0", "Reshape"), ("0", "Multiply"), ("0", "Convert"), ("0", "Const")):
            below = self._input(layer, port)
            if below is None or below.get("type") != wanted or len(self._readers[below.get("id")]) != 1:
                return None
            layer = below
            found.append(layer)
        weights = found.pop()
        scales = self._input(found[2], "1")
        if scales is None or scales.get("type") != "Const" or len(self._readers[scales.get("id")]) != 1:
            return None
        shape = _shape(weights)
        if _child(weights, "data").get("element_type") != "i4" or len(shape) != 3 or shape[2] != GROUP:
            return None
        if _child(scales, "data").get("element_type") != "f16" or _shape(scales) != [*shape[:2], 1]:
            return None
        return _Product(matmul, weights, scales, tuple(found), shape[0], shape[1])

    def replace(self, product: _Product) -> None:
        """Turn the MatMul into an Int4MatMul that reads the bytes of both constants, and remove the layers between."""
        matmul, constants = product.matmul, (product.weights, product.scales)
        shapes = ((product.rows, product.groups * GROUP // 2), (product.rows, product.groups * 2))
        matmul.set("type", "Int4MatMul")
        matmul.set("version", _OPSET)
        matmul.remove(_child(matmul, "data"))
        inputs = _child(matmul, "input")
        for port in inputs.findall("port")[1:]:
            inputs.remove(port)
        self._edges.remove(self._into[_id(matmul), "1"])
        for number, (constant, shape) in enumerate(zip(constants, shapes, strict=True), 1):
            _as_bytes(constant, shape)
            _add_port(inputs, str(number), shape)
            self._connect(_id(constant), _port(constant), _id(matmul), str(number))
        _output(matmul).set("id", "3")
        for edge in self._readers[matmul.get("id")]:
            edge.set("from-port", "3")
        for layer in product.between:
            self._layers.remove(layer)
            for edge in (*self._readers[layer.get("id")], *self._inputs(layer)):
                if edge in self._edges:
                    self._edges.remove(edge)

    def makes_logits(self, matmul: Element) -> bool:
        """Whether this is the head's product: its output is the model's."""
        readers = (self.layers[edge.get("to-layer") or ""] for edge in self._readers[_id(matmul)])
        return any(reader.get("type") == "Result" for reader in readers)

    def find_zero(self, weights: Path) -> Element | None:
        """Return a constant of the value 0 that can be an axis; None if the graph has none. Raises OSError."""
        with weights.open("rb") as file:
            for layer in self.layers.values():
                data = layer.find("data")
                if layer.get("type") != "Const" or data is None or data.get("element_type") not in ("i32", "i64"):
                    continue
                size = int(data.get("size") or 0)
                if _shape(layer) in ([], [1]) and size in (4, 8):
                    file.seek(int(data.get("offset") or 0))
                    if file.read(size) == bytes(size):
                        return layer
        return None

    def gather_sampled_tokens(self, matmul: Element, zero: Element) -> None:
        """Insert a Gather before the head, whose axis is `zero`: the activations of tokens named by a new input."""
        into = self._into[_id(matmul), "0"]
        hidden = _child(matmul, "input")[0]
        indices = self._add_layer(_SAMPLED, "Parameter", "opset1", {"shape": "?", "element_type": "i64"})
        port = SubElement(SubElement(indices, "output"), "port", {"id": "0", "precision": "I64", "names": _SAMPLED})
        SubElement(port, "dim").text = "-1"
        gather = self._add_layer(f"{matmul.get('name')}/sampled", "Gather", "opset8", {"batch_dims": "0"})
        inputs = SubElement(gather, "input")
        for number, like in enumerate((hidden, port, _output(zero))):
            _copy_port(inputs, str(number), like)
        _copy_port(SubElement(gather, "output"), "3", hidden)
        self._connect(into.get("from-layer"), into.get("from-port"), _id(gather), "0")
        self._connect(_id(indices), "0", _id(gather), "1")
        self._connect(_id(zero), _port(zero), _id(gather), "2")
        into.set("from-layer", _id(gather))
        into.set("from-port", "3")

    def remove_unused(self) -> None:
        """Remove the constants that nothing reads any more: the shapes to which weights were reshaped."""
        read = {edge.get("from-layer") for edge in self._edges}
        for layer in list(self._layers):
            if layer.get("type") == "Const" and layer.get("id") not in read:
                self._layers.remove(layer)

    def _add_layer(self, name: str, kind: str, opset: str, data: dict[str, str]) -> Element:
        number = max(int(_id(layer)) for layer in self._layers) + 1
        layer = SubElement(self._layers, "layer", {"id": str(number), "name": name, "type": kind, "version": opset})
        SubElement(layer, "data", data)
        return layer

    def _connect(self, layer: str | None, port: str | None, to_layer: str, to_port: str) -> None:
        ends = {"from-layer": layer or "", "from-port": port or "", "to-layer": to_layer, "to-port": to_port}
        SubElement(self._edges, "edge", ends)

    def _input(self, layer: Element, port: str) -> Element | None:
        edge = self._into.get((layer.get("id"), port))
        return None if edge is None else self.layers.get(edge.get("from-layer") or "")

    def _inputs(self, layer: Element) -> list[Element]:
        return [edge for port in ("0", "1") if (edge := self._into.get((layer.get("id"), port))) is not None]


def _child(element: Element, name: str) -> Element:
    found = element.find(name)
    if found is None:
        raise BackendError(f"the graph has a {element.tag} without {name}", hint="convert the checkpoint again")
    return found


def _id(layer: Element) -> str:
    return layer.get("id") or ""


def _output(layer: Element) -> Element:
    return _child(_child(layer, "output"), "port")


def _port(layer: Element) -> str:
    return _output(layer).get("id") or ""


def _copy_port(ports: Element, number: str, like: Element) -> None:
    port = SubElement(ports, "port", {"id": number, "precision": like.get("precision") or ""})
    port.extend(deepcopy(list(like)))


def _shape(constant: Element) -> list[int]:
    return [int(size) for size in (_child(constant, "data").get("shape") or "").split(",") if size.strip()]


def _as_bytes(constant: Element, shape: tuple[int, ...]) -> None:
    data, port = _child(constant, "data"), _output(constant)
    data.set("element_type", "u8")
    data.set("shape", ", ".join(map(str, shape)))
    port.set("precision", "U8")
    for size in list(port):
        port.remove(size)
    for length in shape:
        SubElement(port, "dim").text = str(length)


def _add_port(inputs: Element, number: str, shape: tuple[int, ...]) -> None:
    port = SubElement(inputs, "port", {"id": number, "precision": "U8"})
    for length in shape:
        SubElement(port, "dim").text = str(length)
