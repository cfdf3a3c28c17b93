"""The fake engine for whole programs: replies from a file, chosen by what stands in the prompt.

The device `echo:FILE` names the file. Each line is a JSON object, a rule: `reply` is the text of a reply as the model
would write it, tool calls included, and `when` a text, or a list of texts, that the prompt has to contain; a rule
without `when` applies to every prompt. The first rule that applies is followed:

    {"when": ["Create hello.txt", "has been written"], "reply": "\\nDone."}
    {"when": "Create hello.txt", "reply": "write_file\\n{\\"path\\": \\"hello.txt\\", \\"text\\": \\"Hello\\"}"}
    {"reply": "\\nHello."}
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from .. import strict_json
from ..errors import RequestError
from ..source import ModelSource
from ..system.files import expand_user
from .backend import FoundDevice, Options, Request
from .echo import Echo, spelled

_PREFIX = "echo:"


@dataclass(frozen=True, slots=True)
class Rule:
    """A reply, and the texts that a prompt has to contain for it."""

    when: tuple[str, ...]
    reply: str

    @classmethod
    def parse(cls, line: str) -> Self:
        """Parse a line of a script. Raises ValueError."""
        match strict_json.parse(line):
            case {"reply": str(reply), **rest} if rest.keys() <= {"when"}:
                when = rest.get("when", [])
                texts = [when] if isinstance(when, str) else when
                if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
                    return cls(tuple(texts), reply)
        raise ValueError('a rule is {"when": TEXT or [TEXT, …], "reply": TEXT}')

    def remaining_reply(self, text: str) -> tuple[int, str] | None:
        """Return how much of the reply stands at the end of `text` already, and what follows it; None if the rule does
        not apply to the prompt before that."""
        done = next(size for size in range(len(self.reply), -1, -1) if text.endswith(self.reply[:size]))
        prompt = text[: len(text) - done]
        return (done, self.reply[done:]) if all(part in prompt for part in self.when) else None


class Scripted(Echo):
    """An engine that replies by the rules of a script, to any number of requests in any order. Its prompts may have any
    length, and a token is a character."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        super().__init__(max_prompt_tokens=2**31 - 1)
        self._rules = rules

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        return ()

    @classmethod
    def find_device(cls, name: str) -> FoundDevice | None:
        return FoundDevice(name) if name.lower().startswith(_PREFIX) else None

    @classmethod
    def load(cls, source: ModelSource, device: str, options: Options) -> Self:
        """Read the script. Raises RequestError for one that cannot be read."""
        path = device[len(_PREFIX) :]
        rules = []
        try:
            lines = expand_user(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            raise RequestError(f"the script {path} cannot be read: {reason}", hint="write it as echo:FILE") from exc
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    rules.append(Rule.parse(line))
                except ValueError as exc:
                    hint = "each line is a rule; a reply's line breaks are \\n"
                    raise RequestError(f"line {number} of the script {path}: {exc}", hint=hint) from exc
        return cls(tuple(rules))

    def reply_to(self, request: Request, prompt_tokens: int) -> str:
        """Return what is left of the rule's reply; under a grammar, only its JSON value."""
        text = spelled(request.prompt)
        found = [rest for rule in self._rules if (rest := rule.remaining_reply(text))]
        reply = max(found, key=lambda rest: rest[0])[1] if found else "\nThe script has no reply to this."
        if request.grammar is not None:
            with suppress(ValueError):
                return reply[: json.JSONDecoder().raw_decode(reply)[1]]
        return reply
