#!/usr/bin/env bash
# Five public MCP servers, from PyPI and npm, each in an environment of its own, and the tests marked `mcp_servers`: their
# tools are listed, and called by `edge chat`.
set -euo pipefail
cd "$(dirname "$0")/../.."
place=${1:-$(mktemp -d)}
python3.11 -m venv "$place/servers"
"$place/servers/bin/pip" install --quiet mcp-server-time mcp-server-git mcp-server-fetch
npm install --silent --no-fund --no-audit --prefix "$place/node" \
    @modelcontextprotocol/server-filesystem @modelcontextprotocol/server-memory
python3.11 -m venv "$place/edge"
. "$place/edge/bin/activate"
pip install --quiet ".[convert,mcp]" "pytest>=8.4,<10" "pytest-timeout>=2.4,<3"
rm -rf build
MCP_SERVERS="$place" python -m pytest -m mcp_servers tests/test_mcp_servers.py
