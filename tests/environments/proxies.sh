#!/usr/bin/env bash
# The page and a streamed chat through real proxies: the tests marked `proxies`. nginx and Caddy are Debian's packages,
# unpacked into a folder of their own; those that are installed already are used as they are.
set -euo pipefail
cd "$(dirname "$0")/../.."
place=${1:-$(mktemp -d)/proxies}
mkdir -p "$place"
for name in nginx caddy; do
    if ! command -v "$name" >/dev/null && [ ! -x "$place/root/usr/sbin/$name" ] && [ ! -x "$place/root/usr/bin/$name" ]; then
        (cd "$place" && apt-get download "$name" && dpkg -x "$name"_*.deb root)
    fi
done
PATH="$place/root/usr/sbin:$place/root/usr/bin:$PATH" python -m pytest -m proxies tests/test_proxies.py
