"""The data files and modules of a frozen application that PyInstaller does not detect by itself.

OpenVINO loads its plugins and frontends by name, GenAI does so with the tokenizers' library, and the engine's process
imports its module by name.
"""

from PyInstaller.utils.hooks import collect_data_files, collect_dynamic_libs, collect_submodules

_OPENVINO = ("openvino", "openvino_genai", "openvino_tokenizers")
_LIBRARIES = ["*.dll", "*.dylib", "lib*.so", "lib*.so.*"]  # on Linux their names end with a version

binaries = [pair for package in _OPENVINO for pair in collect_dynamic_libs(package, search_patterns=_LIBRARIES)]
datas = [pair for package in ("edge", *_OPENVINO) for pair in collect_data_files(package)]
hiddenimports = collect_submodules("runtime")
