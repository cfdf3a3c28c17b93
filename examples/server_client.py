"""A local server as the sidecar of a program in any language: `python examples/server_client.py ./glm4-int4`.

The program starts `edge serve`, reads one line of JSON, and speaks OpenAI's API. Needs the extra [serve].
"""

import json
import subprocess
import sys
from urllib.request import Request, urlopen


def main(folder: str) -> None:
    command = [sys.executable, "-P", "-m", "edge", "serve", folder, "--port", "0", "--ready-json"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            ready = json.loads(server.stdout.readline())
            print(f"{', '.join(ready['models'])} at {ready['url']}")
            body = {
                "model": ready["models"][0],
                "messages": [{"role": "user", "content": "Who are you?"}],
                "stream": True,
            }
            request = Request(
                f"{ready['url']}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            with urlopen(request) as response:
                for line in response:
                    name, _, data = line.decode().strip().partition(": ")
                    if name == "data" and data != "[DONE]" and (choices := json.loads(data)["choices"]):
                        print(choices[0]["delta"].get("content") or "", end="", flush=True)
            print()
        finally:
            server.terminate()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "./glm4-int4")
