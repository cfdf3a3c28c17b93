"""Answer every line of a file, several at a time: `python examples/batch.py ./glm4-int4 questions.txt answers.jsonl`.

The engine works on several requests in one step, so that four threads are faster than one after the other.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import edge


def main(folder: str, questions: str, answers: str) -> None:
    lines = [line for line in Path(questions).read_text(encoding="utf-8").splitlines() if line.strip()]
    with edge.Model(folder) as model, ThreadPoolExecutor(4) as pool, open(answers, "w", encoding="utf-8") as out:

        def answer(line: str) -> dict[str, object]:
            reply = edge.Chat(model, max_tokens=200).send(line)
            return {"question": line, "answer": reply.text, "finish_reason": reply.finish_reason}

        for number, result in enumerate(pool.map(answer, lines), 1):
            out.write(json.dumps(result, ensure_ascii=False) + "\n")
            print(f"{number} of {len(lines)}", end="\r", file=sys.stderr)


if __name__ == "__main__":
    main(*(sys.argv[1:] or ("./glm4-int4", "questions.txt", "answers.jsonl")))
