#!/bin/sh
# The sandbox of the tool python as an ordinary user, in namespaces and under Landlock alone: as root, with a Python that
# everybody can read. Usage: tests/environments/python_tool.sh [PYTHON]
set -eu
python=${1:-/usr/bin/python3}
packages=$(python -c 'import pytest, os; print(os.path.dirname(os.path.dirname(pytest.__file__)))')
home=$(mktemp -d)
chown 65534:65534 "$home"
trap 'rm -rf "$home"' EXIT
cd "$(dirname "$0")/../.."
setpriv --reuid=65534 --regid=65534 --clear-groups \
    env -i PATH="$PATH" HOME="$home" PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$PWD:$packages" \
    "$python" -m pytest -p no:cacheprovider --noconftest --basetemp="$home/tests" -q tests/test_isolation.py
