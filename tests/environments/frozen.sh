#!/usr/bin/env bash
# Frozen applications (PyInstaller) in a new virtual environment: a chat with strict answers and the engine in a process of
# its own, and the window of examples/qt_window.py. They run where there is no Python and no variable of this shell.
#
#     tests/environments/frozen.sh MODEL_FOLDER
set -euo pipefail
folder=$(realpath "$1")
cd "$(dirname "$0")/../.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
. "$place/venv/bin/activate"
pip install --quiet . pyinstaller "PySide6-Essentials>=6.8,<6.9"
cat > "$place/app.py" <<'APP'
import sys

import edge

print("the application runs")
with edge.Chat(sys.argv[1], device="CPU") as chat:
    print(type(chat.model.backend).__name__, chat.send("Who are you?").text)
    print(chat.send("Say a number", answer=edge.Regex("[0-9]{3}")).text)
APP
cat > "$place/window.py" <<'WINDOW'
import sys

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication

import edge
import qt_window

application = QApplication(sys.argv)
with edge.Chat(sys.argv[1], device="CPU") as chat:
    window = qt_window.Window(chat)
    window.show()
    window.signals.done.connect(application.quit)
    window.entry.setText("Who are you?")
    QTimer.singleShot(0, window.send)
    QTimer.singleShot(120_000, lambda: application.exit(1))
    status = application.exec()
    print(type(chat.model.backend).__name__, window.shown.toPlainText())
    window.close()
sys.exit(status)
WINDOW
cp examples/qt_window.py "$place"
cd "$place"
for name in app window; do  # our hook adds what they need
    pyinstaller --onedir --noconfirm --log-level ERROR $name.py
done
deactivate
mkdir empty
clean=(env -i "PATH=$place/empty" "HOME=$place" LANG=C.UTF-8 QT_QPA_PLATFORM=offscreen)
said=$("${clean[@]}" dist/app/app "$folder")
echo "$said"
test "$(grep -c 'the application runs' <<< "$said")" = 1  # the engine's process is the same program, and no application
grep -q '^SubprocessBackend ' <<< "$said"
shown=$("${clean[@]}" dist/window/window "$folder")
echo "$shown"
grep -q '^SubprocessBackend ' <<< "$shown"
test "$(grep -c . <<< "$shown")" -ge 3  # the question and a reply
du -sh dist/app dist/window
echo passed
