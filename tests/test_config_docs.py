"""docs/config.md has the keys of each section as the code has them, and a complete example that loads.

The tables are written there by `python -m tests.test_config_docs`, between `<!-- section NAME -->` and `<!-- end -->`;
the text around them is written by hand.
"""

import re
from pathlib import Path

from edge.config.sections import SECTIONS, section_keys
from edge.config.settings_file import Config

PAGE = Path(__file__).resolve().parents[1] / "docs" / "config.md"
_BLOCK = re.compile(r"(<!-- section (\S+) -->\n).*?(<!-- end -->\n)", re.DOTALL)


def described(section):
    """The description and the table of a section, as Markdown."""
    text = " ".join(SECTIONS[section].__doc__.split())
    rows = [
        f"| `{key.name}` | {key.type_text} | {code(key)} | {key.setting.text}{bounds(key.setting)} |"
        for key in section_keys(section)
    ]
    table = "\n".join(("| key | type | default | what it is |", "|---|---|---|---|", *rows))
    return f"\n{text}\n\n{table}\n\n"


def code(key):
    """The default: a value as TOML has it, or words."""
    if key.setting.default or key.default in (None, (), {}, ""):
        return key.default_text
    return f'`"{key.default}"`' if isinstance(key.default, str) else f"`{key.default_text}`"


def bounds(setting):
    if setting.least is None:
        return ""
    least = f"{setting.least:,}"
    bounded = setting.most is not None and setting.most < 2**31 - 1
    return f" ({least} to {setting.most:,})" if bounded else f" ({least} or more)"


def written(page):
    """The page with every block as the code has it."""
    return _BLOCK.sub(lambda block: block[1] + described(block[2]) + block[3], page)


def test_the_page_is_as_the_code():
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page), "python -m tests.test_config_docs"


def test_the_page_has_every_section_once():
    named = [name for _, name, _ in _BLOCK.findall(PAGE.read_text(encoding="utf-8"))]
    assert named == list(SECTIONS)


def test_the_example_loads(tmp_path):
    example = re.search(r"```toml edge.toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
    file = tmp_path / "edge.toml"
    file.write_text(example, encoding="utf-8")
    config = Config.load(str(file))
    assert list(config.models.folders) == ["glm4", "small"]
    assert config.models.folders["glm4"] == str(tmp_path / "glm4-int4")
    assert config.server.api_key_file == str(tmp_path / "keys.txt")
    assert (config.options.options().lookup, config.limits.limits().running) == (5, 4)
    assert config.sampling.sampling().temperature == 0.7
    assert config.chat.system == "Answer briefly."


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
