"""An MCP server without the SDK, which misbehaves as its first argument says: it answers request after request."""

import json
import os
import sys
import time
from typing import Any

KIND = sys.argv[1] if len(sys.argv) > 1 else "well"
TOOL = {"name": "speak", "description": "Speak", "inputSchema": {"type": "object", "properties": {}}}
TOOLS = {
    "many": [TOOL | {"name": f"tool_{number}"} for number in range(10_000)],
    "large": [TOOL, TOOL | {"name": "large", "inputSchema": {"type": "object", "description": "x" * 2**20}}],
    "names": [TOOL | {"name": name} for name in ("a b", "a/b", "a_b", "größe", "x" * 200, "x" * 201, "speak")],
    "invalid": [
        TOOL | {"name": "banana", "inputSchema": {"type": "object", "properties": {"a": {"type": "banana"}}}},
        TOOL | {"inputSchema": {"type": "object", "properties": {"a": {"$ref": "https://example.invalid/a"}}}},
    ],
    "no schema": [{"name": "speak"}],
    "none": [],
}
added: list[dict[str, Any]] = []
CONTENTS = {
    "huge": [{"type": "text", "text": "y" * 3_000_000}],
    "content": [
        {"type": "text", "text": "one"},
        {"type": "image", "data": "aGVsbG8=", "mimeType": "image/png"},
        {"type": "audio", "data": "aGVsbG8h", "mimeType": "audio/wav"},
        {"type": "resource_link", "uri": "file:///a.txt", "name": "a.txt", "description": "A text"},
        {"type": "resource", "resource": {"uri": "file:///b.txt", "text": "two"}},
        {"type": "resource", "resource": {"uri": "file:///c.bin", "blob": "aGVsbG8h", "mimeType": "a/b"}},
    ],
    "unknown content": [{"type": "smell", "data": "roses"}],
    "no text": [],
}


def write(message: Any) -> None:
    text = message if isinstance(message, str) else json.dumps({"jsonrpc": "2.0"} | message)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def call(number: int) -> dict[str, Any]:
    if KIND == "dies" or (KIND == "dies once" and not os.path.exists("died")):
        open("died", "w").close()
        print("out of coffee", file=sys.stderr)
        os._exit(3)
    if KIND == "changes":
        added.append(TOOL | {"name": f"added_{len(added)}"})
        for _ in range(1000):
            write({"method": "notifications/tools/list_changed"})
    if KIND == "silent":
        time.sleep(600)
    if KIND == "garbage":
        sys.stdout.buffer.write(b"\xff\xfe\x00garbage\n{}\n[1,2\n" + b"z" * 100_000 + b"\n")
        write({"id": 10**6, "result": {"content": []}})
    found = {"content": CONTENTS.get(KIND, [{"type": "text", "text": str(os.getpid())}])}
    return found | ({"structuredContent": {"spoken": 1}} if KIND in ("no text", "content") else {})


def answer(method: str, request: dict[str, Any]) -> dict[str, Any]:
    match method:
        case "initialize":
            version = request["params"]["protocolVersion"]
            information = {"name": "hostile", "version": "1"}
            capabilities = {} if KIND == "no tools" else {"tools": {}}
            return {"protocolVersion": version, "capabilities": capabilities, "serverInfo": information}
        case "tools/list":
            if KIND == "endless":
                return {"tools": [], "nextCursor": str(time.time())}
            return {"tools": TOOLS.get(KIND, [TOOL]) + added}
    return call(request["id"])


if KIND == "stays":
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if KIND == "not at all":
    sys.exit("hostile: the variable TOKEN is missing")
if KIND == "not one":
    print("Usage: something else", flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    if message["method"] not in ("initialize", "tools/list", "tools/call"):
        write({"id": message["id"], "error": {"code": -32601, "message": "Method not found"}})
        continue
    write({"id": message["id"], "result": answer(message["method"], message)})
    if KIND == "dies later" and message["method"] == "tools/list" and not os.path.exists("died"):
        open("died", "w").close()
        os._exit(0)
while KIND == "stays":
    time.sleep(1)
