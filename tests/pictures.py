"""The README's pictures: `python -m tests.pictures` makes docs/pictures/page.png and terminal.svg anew.

They show the embedded checkpoint with the default recipe: the real page in Chromium, and what the commands really
print. Chromium and its driver are needed.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from convert.pipeline import convert
from edge.demo import CHECKPOINT

from .browser import chromium
from .serving import serving_ours

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
PAGE_SIZE = 880, 780  # pixels
COLUMNS = 92
QUESTIONS = ("Who are you?", "When are you open?")


def page(folder: Path, scratch: Path) -> None:
    """The chat page after some questions, as PNG."""
    with serving_ours(folder) as (url, _), chromium(scratch / "profile", scratch / "downloads") as browser:
        browser.driver.set_window_size(*PAGE_SIZE)
        browser.open(url)
        for question in QUESTIONS:
            browser.ask(question)
        browser.js("document.activeElement.blur()")
        (PICTURES / "page.png").write_bytes(browser.driver.get_screenshot_as_png())


def terminal(scratch: Path) -> None:
    """A conversion and a question on the terminal, as SVG."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=COLUMNS, file=(scratch / "console").open("w", encoding="utf-8"))
    lines = (
        ("", ["edge", "convert", "./GLM-4-9B-0414", "./glm4-int4"]),
        ("Who are you?", ["edge", "chat", "./glm4-int4"]),
        ("洗手间在哪里？", ["edge", "chat", "./glm4-int4"]),
    )
    for typed, command in lines:
        done = subprocess.run(
            [sys.executable, "-P", "-m", *command],
            cwd=scratch,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            input=typed,
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        shown = f'echo "{typed}" | {" ".join(command)}' if typed else " ".join(command)
        console.print(Text.assemble(("$ ", "bold green"), (shown, "bold")))
        console.print(Text(done.stdout.replace(f"{scratch.resolve()}{os.sep}", "").strip() + "\n"))
    svg = re.sub(r"\s*@font-face \{.*?\n    \}", "", console.export_svg(title="edge"), flags=re.DOTALL)  # of a CDN
    (PICTURES / "terminal.svg").write_text(svg, encoding="utf-8")


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "GLM-4-9B-0414").symlink_to(CHECKPOINT, target_is_directory=True)
        for _ in convert(CHECKPOINT, scratch / "glm4-demo", "int4"):
            pass
        terminal(scratch)
        page(scratch / "glm4-demo", scratch)


if __name__ == "__main__":
    main()
