"""Compilation of chat templates as in transformers (utils/chat_template_utils.py), with limits on their cost."""

import json
import re
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from ..text import one_line

if TYPE_CHECKING:
    from jinja2 import Template


@lru_cache(maxsize=16)
def compile_template(source: str) -> "Template":
    """Compile a chat template. Raises jinja2.TemplateError."""
    from jinja2 import TemplateError as JinjaError

    from .budget import render_budget
    from .sandbox import TemplateSandbox

    environment = TemplateSandbox()
    environment.add_filter("tojson", _tojson)
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    try:
        with render_budget():  # constants are computed now
            return environment.from_string(source)
    except JinjaError:
        raise
    except Exception as exc:  # from Python's own compiler: nested too deeply, too many names
        raise JinjaError(f"it cannot be compiled: {type(exc).__name__}") from exc


def _strftime_now(format: str) -> str:  # noqa: A002 - the name under which templates may pass it
    if len(format) > 200 or re.search(r"\d{3}", format):  # glibc takes widths
        raise ValueError("a date's format is too long")
    return datetime.now().strftime(format)


def _tojson(
    x: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    from jinja2 import TemplateError as JinjaError

    raise JinjaError(one_line(message))
