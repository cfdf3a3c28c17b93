#!/usr/bin/env bash
# AI SDK's default provider, agent-framework and Codex against our server's Responses API, with scripted replies: a
# second turn, a loop of calls, a task with a command. Needs Node.js; `edge` is the one on the PATH.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-$(mktemp -d)}
mkdir -p "$folder"
folder=$(realpath "$folder")
port=${2:-18770}
export EDGE_URL="http://127.0.0.1:$port"
cat > "$folder/script.jsonl" <<'EOF'
{"when": ["create hello.txt", "Process exited"], "reply": "\nDone: hello.txt is there."}
{"when": ["create hello.txt", "exec_command"], "reply": "exec_command\n{\"cmd\": \"echo Hello > hello.txt\"}"}
{"when": ["The weather?", "sunny, 21"], "reply": "\nIt is sunny."}
{"when": ["The weather?", "get_weather"], "reply": "get_weather\n{\"city\": \"Oslo\"}"}
{"when": ["What is my name?", "I am Ada."], "reply": "\nYour name is Ada."}
{"reply": "\nHello."}
EOF
edge serve edge/demo/checkpoint --device "echo:$folder/script.jsonl" --port "$port" & server=$!
trap 'kill $server' EXIT
until curl -sf "$EDGE_URL/health" > /dev/null; do sleep 0.5; done

cp tests/environments/responses.mjs "$folder/"
(cd "$folder" && npm install --silent --no-save ai@6 @ai-sdk/openai@3 zod@4 @openai/codex && node responses.mjs)

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "agent-framework-openai>=1.17,<2"
"$folder/venv/bin/python" tests/environments/responses_agent.py

mkdir -p "$folder/codex" "$folder/work"
cat > "$folder/codex/config.toml" <<EOF
model = "checkpoint"
model_provider = "edge"
approval_policy = "never"
sandbox_mode = "danger-full-access"
[model_providers.edge]
name = "edge"
base_url = "$EDGE_URL/v1"
wire_api = "responses"
EOF
(cd "$folder/work" && CODEX_HOME="$folder/codex" "$folder/node_modules/.bin/codex" exec --skip-git-repo-check "create hello.txt" < /dev/null)
grep -q Hello "$folder/work/hello.txt"
echo "Codex: hello.txt is there"
