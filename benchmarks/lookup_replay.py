"""What prompt lookup brings to texts that a model could write: they are replayed with GenAI's rule of drafting.

The embedded checkpoint edits no code and quotes no documents, and GLM-4 is too large for a benchmark of minutes.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path

from tokenizers import Tokenizer

from edge.evaluation.corpus import built_in_samples
from runtime.backends.openvino.paged.prompt_lookup import NGRAM, DraftLength

_WORDS = ("First,", "Besides,", "Then", "At last")  # of the model's own, between quotes


def replay(folder: Path, costs: Mapping[int, float], *, kernel: bool) -> list[list[str]]:
    """Return rows of the kind of text, the tokens of a step, and how many times faster that is. `costs` are those of a
    step by the tokens that it drafts, in steps of a single token, with the int4 `kernel` or OpenVINO's products."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = []
    for kind, pairs in replayed_texts().items():
        drafts = DraftLength(None, kernel=kernel)
        tokens, cost, steps = 0, 0.0, 0
        for prompt, reply in pairs:
            before, ids = (tokenizer.encode(text, add_special_tokens=False).ids for text in (prompt, reply))
            length = drafts.choose(constrained=False, alone=True)
            done = 1
            while done < len(ids):
                draft = find_draft([*before, *ids[:done]], length)
                accepted = sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(draft, ids[done:], strict=False)))
                new = min(accepted + 1, len(ids) - done)
                drafts.record(length, new, constrained=False)
                done, tokens, steps, cost = done + new, tokens + new, steps + 1, cost + costs[length]
        rows.append([kind, f"{tokens / steps:.2f}", f"{tokens / cost:.2f}"])
    return rows


def find_draft(ids: Sequence[int], length: int) -> Sequence[int]:
    """Return what GenAI drafts after these ids."""
    for size in range(min(NGRAM, len(ids) // 2), 0, -1):
        last = ids[-size:]
        for start in range(len(ids) - size):
            if ids[start] == last[0] and ids[start : start + size] == last:
                return ids[start + size : start + size + length]
    return ()


def replayed_texts() -> dict[str, list[tuple[str, str]]]:
    """Return prompts and replies: edited code, answers that quote a page sentence by sentence, and texts that have
    nothing to do with their prompts."""
    root = Path(__file__).parents[1]
    files = sorted((root / "runtime" / "reply").glob("*.py"))[:6]
    pages = sorted((root / "docs").glob("*.md"))[:8]
    code = [(text := file.read_text(encoding="utf-8"), _edit(text)) for file in files]
    documents = []
    for page in pages:
        text = page.read_text(encoding="utf-8")[:6000]
        sentences = re.findall(r"[A-Z][^.#|`\n]{60,200}\.", text)[:4]
        told = " ".join(f"{word} the page says this: {one}" for word, one in zip(_WORDS, sentences, strict=False))
        documents.append((text, told))
    passages = [("<|user|>\nWrite a text.<|assistant|>", sample.text) for sample in built_in_samples(chats=False)]
    return {"code editing": code, "documents": documents, "no quotes": passages}


def _edit(code: str) -> str:
    """Return the code with its most frequent name of some length renamed."""
    name, _ = Counter(re.findall(r"\b[a-z_]{6,}\b", code)).most_common(1)[0]
    return re.sub(rf"\b{name}\b", f"new_{name}", code)
