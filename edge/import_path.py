"""Our packages `runtime` and `convert` on Python's import path, where a module of the same name may hide them.

`import edge` needs `runtime`; only code that converts needs `convert`. In an application a foreign module is never
replaced: its `import convert` must load its own file. In a process of the command line our packages come
first.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # the folder of all three packages
_PACKAGES = ("runtime", "convert")


def prefer_own_packages() -> None:
    """Put our folder first on the import path if a foreign module hides a package; in the command `edge` alone."""
    if _is_command_line() and any(_hiding_file(name) for name in _PACKAGES):
        sys.path.insert(0, str(ROOT))


def require_own_package(name: str) -> None:
    """Raise ImportError, with the cure, if a foreign module hides our package `name`."""
    if found := _hiding_file(name):
        raise ImportError(
            f"{found} hides glm4-edge's package {name!r}: {_cure(name, found)}", name=name, path=str(found)
        )


def _hiding_file(name: str) -> Path | None:
    """Return the file or folder that `import name` loads, or has loaded, in place of our package; None if that is ours
    or nothing."""
    if module := sys.modules.get(name):
        file, folders = getattr(module, "__file__", None), list(getattr(module, "__path__", ()))
        file = file if file or folders else f"<{name}>"  # made by a program
    else:
        spec = find_spec(name)
        file, folders = (spec.origin, list(spec.submodule_search_locations or ())) if spec else (None, [])
    # A folder without __init__.py has no file. A frozen application keeps our folders, but not the suffix .py.
    folder = Path(file).parent if file else Path(folders[0]) if folders else None
    if folder is None or folder.resolve() == (ROOT / name).resolve():
        return None
    return Path(file) if file else folder


def _cure(name: str, found: Path) -> str:
    if name in sys.modules:
        command = "edge convert" if name == "convert" else "edge serve"
        return f"rename it, or run `{command}` in a process of its own"
    # The folder of the program, or the working directory of `python -c` and `python -m`.
    first = not sys.flags.safe_path and bool(sys.path) and Path(sys.path[0] or ".").resolve() in found.resolve().parents
    return (
        f"rename it, or, if this program does not import it, {'start Python with -P, or ' if first else ''}"
        f"put this before `import edge`: import sys; sys.path.insert(0, {str(ROOT)!r})"
    )


def _is_command_line() -> bool:
    """Return whether this process runs `python -m edge` or the console script `edge`."""
    program = sys.argv[0] if getattr(sys, "argv", None) else ""
    if program == "-m":  # while Python looks for the module
        return sys.orig_argv[-len(sys.argv)] == "edge"
    return Path(program).name in ("edge", "edge.exe")
