"""Test sets that ship with this package for particular checkpoints, found by the fingerprint of their weights.

A model with a narrow purpose needs texts of its own kind. `texts.jsonl` and `calls.jsonl` in a checkpoint's folder have
the form of `edge eval --texts` and `--calls`, and are the defaults for model folders made of it.
"""

from pathlib import Path

DATA = Path(__file__).with_name("data")


def folder_of(fingerprint: str) -> Path:
    """Return the path for the test set of a checkpoint with these weights; it may not exist."""
    return DATA / (fingerprint or "none")[:16]


def find(fingerprint: str, name: str) -> Path | None:
    """Return the file called `name` in the checkpoint's test set; None where it has none."""
    path = folder_of(fingerprint) / name
    return path if path.is_file() else None
