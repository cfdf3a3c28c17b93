"""A bar chart as SVG, without a library: a bar for each side, and a line from its lowest run to its highest."""

from collections.abc import Mapping
from xml.sax.saxutils import escape

from edge.bench import Summary

_LABEL, _WIDTH, _VALUE = 190, 420, 90  # pixels: names, the longest bar, figures
_ROW, _TOP = 26, 34
_COLOURS = ("#0a6", "#47c", "#c73", "#a4a", "#888", "#b33")


def bar_chart(title: str, values: Mapping[str, Summary]) -> str:
    longest = max(measure.high for measure in values.values()) or 1.0
    rows = [
        _bar(_TOP + i * _ROW, name, measure, _WIDTH / longest, _COLOURS[i % len(_COLOURS)])
        for i, (name, measure) in enumerate(values.items())
    ]
    width, height = _LABEL + _WIDTH + _VALUE, _TOP + len(values) * _ROW + 8
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
            f'font-size="13"><rect width="{width}" height="{height}" fill="white"/>',
            f'<text x="8" y="20" font-weight="bold">{escape(title)}</text>',
            *rows,
            "</svg>\n",
        ]
    )


def _bar(y: int, name: str, measure: Summary, scale: float, colour: str) -> str:
    end, low, high = (_LABEL + value * scale for value in (measure.median, measure.low, measure.high))
    middle = y + _ROW // 2 - 3
    return (
        f'<text x="{_LABEL - 8}" y="{middle + 4}" text-anchor="end">{escape(name)}</text>'
        f'<rect x="{_LABEL}" y="{y}" width="{end - _LABEL:.1f}" height="{_ROW - 6}" fill="{colour}"/>'
        f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="#222"/>'
        f'<text x="{max(end, high) + 8:.1f}" y="{middle + 4}">{measure.median:,.4g}</text>'
    )
