#!/usr/bin/env bash
# A frozen application (PyInstaller) with the engine in a process of its own, in a new virtual environment.
#
#     tests/environments/frozen.sh MODEL_FOLDER
set -euo pipefail
folder=$(realpath "$1")
cd "$(dirname "$0")/../.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
. "$place/venv/bin/activate"
pip install --quiet . pyinstaller
cat > "$place/app.py" <<'APP'
import sys

import edge

print("the application runs")
with edge.Chat(sys.argv[1], device="CPU") as chat:
    print(type(chat.model.backend).__name__, chat.send("Who are you?").text)
    print(chat.send("Say a number", answer=edge.Regex("[0-9]{3}")).text)
APP
cd "$place"
pyinstaller --onedir --noconfirm --log-level ERROR app.py  # our hook adds what it needs
deactivate
said=$(dist/app/app "$folder")
echo "$said"
test "$(grep -c 'the application runs' <<< "$said")" = 1  # the engine's process is the same program, and no application
grep -q '^SubprocessBackend ' <<< "$said"
echo passed
