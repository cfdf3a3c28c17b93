"""Client libraries × features, against our server on the embedded checkpoint, in the environments of
tests/environments/clients.sh:

    python -m tests.client_matrix FOLDER

prints the table of docs/clients.md. tests/client_scripts has a script for each library, and what its features are.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent / "client_scripts"
FEATURES = {"chat": "chat", "stream": "stream", "tools": "tools loop", "schema": "schema", "second_turn": "second turn"}
# The library and its API: the package that has the version, the script, its argument.
CLIENTS = {
    "openai python, chat": ("openai", "openai_python.py", ""),
    "openai python, Responses": ("openai", "openai_python.py", "responses"),
    "openai node, chat": ("openai", "openai_node.mjs", ""),
    "openai node, Responses": ("openai", "openai_node.mjs", "responses"),
    "AI SDK, default provider": ("@ai-sdk/openai", "ai_sdk_node.mjs", ""),
    "AI SDK, openai-compatible": ("@ai-sdk/openai-compatible", "ai_sdk_node.mjs", "compatible"),
    "LangChain python, chat": ("langchain-openai", "langchain_python.py", ""),
    "LangChain python, Responses": ("langchain-openai", "langchain_python.py", "responses"),
    "LangChain node, chat": ("@langchain/openai", "langchain_node.mjs", ""),
    "LangChain node, Responses": ("@langchain/openai", "langchain_node.mjs", "responses"),
    "OpenAI agents SDK, Responses": ("openai-agents", "agents_python.py", ""),
    "OpenAI agents SDK, chat": ("openai-agents", "agents_python.py", "chat"),
    "agent-framework, Responses": ("agent-framework-openai", "agent_framework_python.py", ""),
    "agent-framework, chat": ("agent-framework-openai", "agent_framework_python.py", "chat"),
    "pydantic-ai, chat": ("pydantic-ai-slim", "pydantic_ai_python.py", ""),
    "pydantic-ai, Responses": ("pydantic-ai-slim", "pydantic_ai_python.py", "responses"),
    "LiteLLM": ("litellm", "litellm_python.py", ""),
    "instructor": ("instructor", "instructor_python.py", ""),
    "smolagents": ("smolagents", "smolagents_python.py", ""),
    "anthropic python": ("anthropic", "anthropic_python.py", ""),
    "anthropic node": ("@anthropic-ai/sdk", "anthropic_node.mjs", ""),
    "ollama python": ("ollama", "ollama_python.py", ""),
    "ollama node": ("ollama", "ollama_node.mjs", ""),
}


class Environments:
    """The folder that clients.sh made: a virtual environment `python`, and `node` with its node_modules."""

    def __init__(self, folder: Path) -> None:
        self.python = folder / "python" / "bin" / "python"
        self._node = folder / "node"
        for script in SCRIPTS.glob("*.mjs"):  # Node looks for modules beside the script
            shutil.copy(script, self._node)

    def version(self, client: str) -> str:
        package, script, _ = CLIENTS[client]
        if script.endswith(".mjs"):
            return str(json.loads((self._node / "node_modules" / package / "package.json").read_text())["version"])
        code = f"import importlib.metadata; print(importlib.metadata.version('{package}'))"
        return subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    def run(self, client: str, url: str, model: str) -> dict[str, str | None]:
        """The error of each feature, None for one that works."""
        _, script, argument = CLIENTS[client]
        started = (
            ["node", str(self._node / script)] if script.endswith(".mjs") else [self.python, str(SCRIPTS / script)]
        )
        with tempfile.TemporaryDirectory() as home:  # some of them write there
            done = subprocess.run(
                [*started, url, model, *argument.split()],
                capture_output=True,
                text=True,
                check=False,
                cwd=home,
                env=os.environ | {"HOME": home},
                timeout=300,
            )
        found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"feature"')]
        return dict.fromkeys(FEATURES, done.stderr[-2000:]) | {one["feature"]: one["error"] for one in found}


@contextmanager
def serving_slowly(folder: Path) -> Iterator[str]:
    """The URL of our server, whose engine pauses after each token: the server joins the pieces of a text that wait for
    its event loop, so that a busy machine would stream few of them."""
    from runtime.model import Model

    from .serving import serving_ours

    with Model(folder, device="CPU") as model, serving_ours(folder) as (url, dispatcher):
        generate = model.backend.generate

        def paused(request: Any) -> Any:
            with closing(generate(request)) as deltas:
                for delta in deltas:
                    time.sleep(0.01)
                    yield delta

        model.backend.generate = paused  # type: ignore[method-assign]
        (entry,) = dispatcher.pool.entries.values()
        entry.model = model
        yield url


def main() -> int:
    from edge.demo import CHECKPOINT

    environments = Environments(Path(sys.argv[1]))
    failed = 0
    print(f"| client | version | {' | '.join(FEATURES.values())} |\n|---|---|{'---|' * len(FEATURES)}")
    with tempfile.TemporaryDirectory() as place:
        from convert.pipeline import convert

        *_, last = convert(CHECKPOINT, Path(place) / "model", "int4")
        with serving_slowly(last.result.path) as url:
            for client in CLIENTS:
                errors = environments.run(client, url, "model")
                cells = ["pass" if errors[feature] is None else "**fail**" for feature in FEATURES]
                print(f"| {client} | {environments.version(client)} | {' | '.join(cells)} |", flush=True)
                for feature, error in errors.items():
                    if error is not None:
                        failed += 1
                        print(f"{client}, {feature}: {' '.join(error.split())}", file=sys.stderr, flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
