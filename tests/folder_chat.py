"""A process that chats with the folders whose paths it reads, a line each: `python -m tests.folder_chat`.

It answers each with a line of JSON: {"answer": …}, {"refused": …, "hint": …} or {"traceback": …}. The folder of a path
after "process " runs in the engine's own process, as in applications; others in this one, which a crash ends.
"""

import json
import sys
import traceback
import warnings

import edge

QUESTION = "Who are you?"


def chat(path: str, *, in_process: bool) -> dict[str, str]:
    try:
        with edge.Chat(path, device="CPU", in_process=in_process) as opened:
            return {"answer": opened.send(QUESTION).text}
    except edge.EdgeError as exc:
        return {"refused": str(exc), "hint": exc.hint}
    except Exception:  # noqa: BLE001
        return {"traceback": traceback.format_exc()}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    answers = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        path = line.rstrip("\n")
        answer = chat(path.removeprefix("process "), in_process=not path.startswith("process "))
        print(json.dumps(answer), file=answers, flush=True)
