"""Jinja's sandbox with limits on what a chat template may cost, since a template comes with a checkpoint from anyone.

Jinja keeps a template from Python's internals, but not from `'a' * 10**10` or nested loops. Here each operation that
could make something large is checked before it is done, its result is counted, and loops check a deadline. Exceeding a
limit is a SecurityError.
"""

from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import nodes, pass_eval_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from . import filters
from .budget import current_budget

MAX_SOURCE = 1 << 20  # characters of a template; GLM-4's have up to 10,000
_MAX_BITS = 4096  # of an integer
# Names of our filters; no template can spell them.
_LOOP_FILTER, _JOIN_FILTER, _SLICE_FILTER, _MEASURE_FILTER = "each of", "joined with", "cut by", "measured"


class _Generation(Extension):
    """`{% generation %}`, by which trainers mark what the assistant writes. It renders as what it contains."""

    tags = {"generation"}  # noqa: RUF012 - so in Jinja

    def parse(self, parser: Parser) -> nodes.CallBlock:
        """Parse up to `{% endgeneration %}`."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_render_body"), [], [], body, lineno=line)

    @pass_eval_context
    def _render_body(self, _context: nodes.EvalContext, caller: Macro) -> str:
        return str(caller())


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """Jinja's environment as transformers sets it up (utils/chat_template_utils.py), with limits."""

    intercepted_binops = frozenset("+ * ** %".split())

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], finalize=filters.finalize
        )
        del self.globals["lipsum"]
        for name, function in list(self.filters.items()):
            self.filters[name] = filters.bounded_filter(name, function)
        self.filters |= {
            "join": filters.join_filter(self.filters["map"]),
            _LOOP_FILTER: filters.iterate,
            _JOIN_FILTER: filters.concatenate_values,
            _SLICE_FILTER: filters.slice_value,
            _MEASURE_FILTER: filters.measure,
        }
        self.tests.update({name: filters.bounded_test(test) for name, test in list(self.tests.items())})
        self.concat = filters.concatenate  # type: ignore[method-assign]

    def add_filter(self, name: str, function: Callable[..., Any]) -> None:
        """Add a filter whose operand and result are bounded like those of Jinja's own."""
        self.filters[name] = filters.bounded_filter(name, function)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > MAX_SOURCE:
            raise SecurityError(f"it has {len(source):,} characters, more than {MAX_SOURCE:,}")
        found: nodes.Template = _InsertFilters().visit(super()._parse(source, name, filename))
        return found

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute `left operator right` if the result is within the limits."""
        budget = current_budget()
        match operator, left, right:
            case "%", str() | bytes(), _:
                filters.check_format(budget, str(left, "latin-1") if isinstance(left, bytes) else left, right)
            case "**", int(), int():
                if right > _MAX_BITS or abs(left).bit_length() * right > _MAX_BITS:
                    raise SecurityError("it makes too large a number")
            case "*", int(), int():
                if left.bit_length() + right.bit_length() > _MAX_BITS:
                    raise SecurityError("it makes too large a number")
            case "*", str() | bytes(), int():
                budget.check_length(len(left) * right)
            case "*", int(), str() | bytes():
                budget.check_length(len(right) * left)
            case "*", list() | tuple(), int():
                budget.check_items(len(left) * right)
            case "*", int(), list() | tuple():
                budget.check_items(len(right) * left)
            case "+", str() | bytes() | list() | tuple(), str() | bytes() | list() | tuple():
                budget.check_length(len(left) + len(right))
        return budget.charge(super().call_binop(context, operator, left, right))

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a macro, function or method if its operands and result are within the limits."""
        budget = current_budget()
        budget.check_deadline()
        if not isinstance(__obj, Macro):
            filters.measure([*args, *kwargs.values()])
        method = getattr(__obj, "__wrapped__", __obj)  # str.format comes in a wrapper of the sandbox
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str | bytes | int | float) and not isinstance(owner, bool):
            filters.check_method(budget, owner, method.__name__, [*args, *kwargs.values()])
        return budget.charge(super().call(__context, __obj, *args, **kwargs))


class _InsertFilters(NodeTransformer):
    """Route loops, joins, slices, comparisons and keys, which Jinja compiles to plain Python, through our filters."""

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _filter_node(node.expr, _MEASURE_FILTER)
        for operand in node.ops:
            operand.expr = _filter_node(operand.expr, _MEASURE_FILTER)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        self.generic_visit(node)
        node.key = _filter_node(node.key, _MEASURE_FILTER)
        return node

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _filter_node(node.iter, _LOOP_FILTER)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filter_node(nodes.Tuple(node.nodes, "load", lineno=node.lineno), _JOIN_FILTER)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            node.arg = (
                _filter_node(node.arg, _MEASURE_FILTER) if isinstance(node.arg, nodes.Tuple | nodes.Name) else node.arg
            )
            return node
        bounds = (node.arg.start, node.arg.stop, node.arg.step)
        return _filter_node(node.node, _SLICE_FILTER, [bound or nodes.Const(None) for bound in bounds])


def _filter_node(node: Any, name: str, arguments: Sequence[nodes.Expr] = ()) -> nodes.Filter:
    found = nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)
    environment = node.environment
    for one in (found, *found.find_all(nodes.Node)):
        one.environment = one.environment or environment
        one.lineno = one.lineno or node.lineno
    return found
