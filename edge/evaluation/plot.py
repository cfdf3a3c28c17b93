"""Charts as SVG: lines over a few steps, and bars.

matplotlib is larger than the engine and must match numpy's ABI; pygal, the light library for this, is LGPL, and its
charts load a script from its maker's site. So the few elements that reports need are written here.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 150, 44, 56
# The palette of Okabe and Ito, which is distinguishable with colour blindness.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 2", "10 4", "4 4")

Series = Mapping[str, Sequence[float | None]]


def line_chart(title: str, steps: Sequence[str], series: Series, *, x: str, y: str) -> str:
    """Draw a line for each series over the named steps, which are equally spaced.

    The y axis is logarithmic where the values span a factor of more than 100; values that are not positive are left out
    then, and None always.
    """
    shown = [value for values in series.values() for value in values if value is not None]
    axis = _Axis.over(shown)
    positions = _positions(len(steps))
    parts = [
        *_frame(title, x, y, axis),
        *(part for position, name in zip(positions, steps, strict=True) for part in _tick_label(position, name)),
    ]
    for number, (name, values) in enumerate(series.items()):
        colour, dash = _COLOURS[number % len(_COLOURS)], _DASHES[number % len(_DASHES)]
        points = [
            (position, axis.y(v))
            for position, v in zip(positions, values, strict=True)
            if v is not None and axis.shows(v)
        ]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        pen = f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'
        parts.append(f'<polyline points="{path}" fill="none" {pen}/>')
        parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in points]
        parts += _legend(number, name, colour, dash)
    return _document(parts)


def bar_chart(
    title: str, values: Mapping[str, float], *, y: str, ranges: Mapping[str, tuple[float, float]] | None = None
) -> str:
    """Draw a bar for each value, from zero, with the value above it and a line over its range, if it has one."""
    ranges = ranges or {}
    axis = _Axis(0.0, max((*values.values(), *(high for _, high in ranges.values())), default=0.0) or 1.0)
    positions = _positions(len(values))
    width = min(80.0, 0.6 * (_WIDTH - _LEFT - _RIGHT) / max(len(values), 1))
    parts = list(_frame(title, "", y, axis))
    for number, (x, (name, value)) in enumerate(zip(positions, values.items(), strict=True)):
        top, colour = axis.y(value), _COLOURS[number % len(_COLOURS)]
        left, height = x - width / 2, _HEIGHT - _BOTTOM - top
        parts.append(f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>')
        if name in ranges:
            low, high = map(axis.y, ranges[name])
            parts.append(f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="#222"/>')
            top = min(top, high)
        parts += [_text(x, top - 5, f"{value:,.4g}", "middle"), *_tick_label(x, name)]
    return _document(parts)


class _Axis:
    """The y axis."""

    def __init__(self, low: float, high: float, *, logarithmic: bool = False) -> None:
        self.logarithmic = logarithmic
        if logarithmic:
            low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
            if low == high:
                high *= 10
        self.low, self.high = low, high

    @classmethod
    def over(cls, values: Sequence[float]) -> "_Axis":
        positive = [value for value in values if value > 0]
        if positive and max(positive) > 100 * min(positive):
            return cls(min(positive), max(positive), logarithmic=True)
        return cls(min(0.0, *values, 0.0), 1.05 * max((*values, 0.0)) or 1.0)

    def shows(self, value: float) -> bool:
        return not self.logarithmic or value > 0

    def y(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    def ticks(self) -> list[float]:
        if self.logarithmic:
            first, last = round(math.log10(self.low)), round(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1, max(1, (last - first) // 6))]
        size = 10.0 ** math.floor(math.log10(self.high - self.low))
        step = next(s for s in (size / 5, size / 2, size, 2 * size) if (self.high - self.low) / s <= 6)
        return [step * i for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def _positions(count: int) -> list[float]:
    room = _WIDTH - _LEFT - _RIGHT
    return [_LEFT + room * (i + 0.5) / count for i in range(count)]


def _frame(title: str, x: str, y: str, axis: _Axis) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = [_text(_LEFT, 22, title, "start", size=15)]
    for tick in axis.ticks():
        at = axis.y(tick)
        parts.append(f'<line x1="{_LEFT}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 6, at + 4, f"{tick:.3g}", "end"))
    parts.append(f'<line x1="{_LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}" stroke="#333"/>')
    parts.append(_text((_LEFT + right) / 2, _HEIGHT - 12, x, "middle"))
    middle = (_TOP + bottom) / 2
    parts.append(f'<g transform="rotate(-90 18 {middle:.1f})">{_text(18, middle, y, "middle")}</g>')
    return parts


def _tick_label(x: float, name: str) -> list[str]:
    """A label below the x axis, a line for each word."""
    top = _HEIGHT - _BOTTOM + 18
    return [_text(x, top + 14 * line, word, "middle") for line, word in enumerate(name.split())]


def _legend(number: int, name: str, colour: str, dash: str) -> list[str]:
    x, y = _WIDTH - _RIGHT + 10, _TOP + 10 + 20 * number
    line = (
        f'<line x1="{x}" y1="{y}" x2="{x + 24}" y2="{y}" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
    )
    return [line, _text(x + 30, y + 4, name, "start", size=11)]


def _text(x: float, y: float, text: str, anchor: str, size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="#222">{escape(text)}</text>'


def _document(parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        'font-family="sans-serif">'
    )
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>", ""])
