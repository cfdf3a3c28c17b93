"""PyInstaller's hook for applications that import edge: no options are needed to freeze one.

PyInstaller finds the folder by the entry point `pyinstaller40`; see
https://pyinstaller.org/en/stable/hooks.html#providing-pyinstaller-hooks-with-your-package
"""

from pathlib import Path


def get_hook_dirs() -> list[str]:
    """Return the folders of our hooks."""
    return [str(Path(__file__).parent)]
