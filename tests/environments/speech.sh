#!/usr/bin/env bash
# OpenAI's JavaScript client and curl against /v1/audio of a server with tiny speech models, with a question that
# espeak-ng speaks. Needs Node.js and espeak-ng; `edge` and `python` are those on the PATH.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-$(mktemp -d)}
mkdir -p "$folder"
folder=$(realpath "$folder")
port=${2:-18780}
export EDGE_URL="http://127.0.0.1:$port"
[ -d "$folder/whisper" ] || python - "$folder" <<'EOF'
import sys
from pathlib import Path

import edge
from tests.speech_models import write_recognition_model, write_speech_model

edge.adopt(write_recognition_model(Path(sys.argv[1], "whisper")))
edge.adopt(write_speech_model(Path(sys.argv[1], "speecht5")))
EOF
espeak-ng -v en -w "$folder/question.wav" "When does the museum open on Monday?"
edge serve edge/demo/checkpoint "$folder/whisper" "$folder/speecht5" --device echo --port "$port" & server=$!
trap 'kill $server' EXIT
until curl -sf "$EDGE_URL/health" > /dev/null; do sleep 0.5; done

cp tests/environments/speech.mjs "$folder/"
(cd "$folder" && { [ -d node_modules/openai ] || npm install --silent --no-save openai@6; } && node speech.mjs)
curl -sf "$EDGE_URL/v1/audio/transcriptions" -F file=@"$folder/question.wav" -F model=whisper -F response_format=srt
