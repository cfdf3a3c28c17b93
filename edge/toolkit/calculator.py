"""A calculator: arithmetic and the usual functions, on numbers of a bounded size."""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from runtime.text import quoted
from runtime.tool_call import ToolFailure

_CHARACTERS = 1000
_BITS = 10_000  # of a whole number: 3,000 digits
_FACTORIAL = 1000
_SPELLINGS = str.maketrans({"×": "*", "÷": "/", "−": "-", "·": "*", "^": "**"})
_CONSTANTS = {"pi": math.pi, "e": math.e, "tau": math.tau}


def calculator(expression: str) -> str:
    """Calculate the value of an arithmetic expression.

    Args:
        expression: such as (3 + 4) * 2 ** 10 / sqrt(2); with + - * / // % **, pi, e, and functions such as sqrt, sin,
            cos, tan, log, log10, exp, floor, ceil, round, abs, min, max, factorial, gcd, degrees, radians
    """
    if len(expression) > _CHARACTERS:
        raise ToolFailure(f"the expression is longer than {_CHARACTERS:,} characters")
    try:
        tree = ast.parse(expression.strip().translate(_SPELLINGS), mode="eval")
        return _write(_evaluate(tree.body))
    except (SyntaxError, ValueError, MemoryError, RecursionError) as exc:
        if isinstance(exc, ValueError) and "math domain" in str(exc):
            raise ToolFailure("the value is not a real number") from exc
        raise ToolFailure(f"{quoted(expression)} is not an arithmetic expression") from exc
    except ZeroDivisionError as exc:
        raise ToolFailure("division by zero") from exc
    except OverflowError as exc:
        raise ToolFailure("a number is too large") from exc


def _evaluate(node: ast.expr) -> int | float:
    match node:
        case ast.Constant(value=value) if type(value) in (int, float):
            return _bounded(value)
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _evaluate(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_evaluate(left), _evaluate(right))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _bounded(_OPERATORS[type(op)](_evaluate(left), _evaluate(right)))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            try:
                return _bounded(_FUNCTIONS[name](*map(_evaluate, args)))
            except TypeError as exc:
                raise ToolFailure(f"{name} does not accept these arguments") from exc
    raise ValueError


def _power(base: float, exponent: float) -> int | float:
    whole = isinstance(base, int) and isinstance(exponent, int) and exponent > 1 and abs(base) > 1
    if whole and int(base).bit_length() * exponent > _BITS:
        raise OverflowError
    value = base**exponent
    if isinstance(value, complex):
        raise ToolFailure("the value is not a real number")
    return _bounded(value)


def _factorial(number: float) -> int:
    if not isinstance(number, int) or number < 0:
        raise ToolFailure("factorial takes a whole number from 0")
    if number > _FACTORIAL:
        raise OverflowError
    return math.factorial(number)


def _round(number: float, digits: int = 0) -> int | float:
    if not isinstance(digits, int) or abs(digits) > 300:
        raise ToolFailure("round takes a whole number of digits from -300 to 300")
    return round(number, digits) if digits else round(number)


def _bounded(value: Any) -> int | float:
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise OverflowError
    if isinstance(value, float) and not math.isfinite(value):
        raise OverflowError
    if not isinstance(value, int | float):
        raise ValueError
    return value


def _write(value: float) -> str:
    if isinstance(value, float):
        return format(value, ".15g")
    return str(value)


_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": abs,
    "acos": math.acos,
    "asin": math.asin,
    "atan": math.atan,
    "ceil": math.ceil,
    "cos": math.cos,
    "degrees": math.degrees,
    "exp": math.exp,
    "factorial": _factorial,
    "floor": math.floor,
    "gcd": math.gcd,
    "hypot": math.hypot,
    "ln": math.log,
    "log": math.log,
    "log10": math.log10,
    "log2": math.log2,
    "max": max,
    "min": min,
    "radians": math.radians,
    "round": _round,
    "sin": math.sin,
    "sqrt": math.sqrt,
    "tan": math.tan,
}
