#!/usr/bin/env bash
# An offline bundle: made here, then installed, chatted with and served where there is no network interface at all.
#
#     tests/environments/bundle.sh MODEL_FOLDER [--platform …]
set -euo pipefail
folder=$(realpath "$1")
shift
cd "$(dirname "$0")/../.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python=$(python3 -c 'import sys; print(sys._base_executable)')
python3 -m edge bundle "$place/bundle" --model "$folder" "$@"
du -sh "$place/bundle" "$place/bundle/wheels" | sed "s|$place/||"
mkdir "$place/home"
cat > "$place/inside.sh" <<'INSIDE'
set -eu
test "$(cat /proc/net/dev | tail -n +3 | grep -vc ' lo:' || true)" = 0
cd "$HOME"
PYTHON=$1 sh "$2/install.sh" "$HOME/app"
ip link set lo up 2>/dev/null || true
echo "Who are you?" | "$HOME/app/venv/bin/edge" chat "$HOME/app/models/$3" --device CPU
"$HOME/app/venv/bin/edge" inspect "$HOME/app/models/$3" > /dev/null
"$HOME/app/venv/bin/edge" serve "$HOME/app/models/$3" --kiosk "$HOME/app/kiosk.toml" --device CPU --check new
echo "x" >> "$2/wheels/$(ls "$2/wheels" | head -1)"
if PYTHON=$1 sh "$2/install.sh" "$HOME/other"; then exit 1; fi
test ! -e "$HOME/other"
INSIDE
env -i HOME="$place/home" PATH=/usr/bin:/bin:/usr/sbin:/sbin LANG=C.UTF-8 \
    unshare -n bash "$place/inside.sh" "$python" "$place/bundle" "$(basename "$folder")" | tee "$place/said"
test "$(grep -c . "$place/said")" -ge 3  # two lines of the installer, and the reply
echo passed
