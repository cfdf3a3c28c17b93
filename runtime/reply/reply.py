"""A complete reply, collected from its events."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from ..citations import CitedPassages
from ..events import (
    Citation,
    Documents,
    DroppedMessages,
    Event,
    Finish,
    FinishReason,
    Logprobs,
    PromptLogprobs,
    Reasoning,
    Text,
    TokenLogprob,
    ToolCall,
    ToolResult,
    Usage,
)
from ..messages import Message


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete reply. As a string it is its text.

    - `text`: the answer; `reasoning`: what the model thought before it.
    - `tool_calls` and `tool_results`: of all rounds, in their order.
    - `finish_reason`: "stop", "length" (the token limit), "rounds" (the model kept calling tools) or "cancelled".
    - `usage`: tokens and seconds.
    - `logprobs`: the answer's tokens, and `prompt_logprobs`, the prompt's, if they were asked for.
    - `stop_text`: the stop string before which the reply ended, "" if there was none.
    - `citations`: what the message contained of its documents, and the tools' results of theirs.
    - `cited`: those of them that the answer names by their numbers, as [1] or 【7†source】, in its order.
    - `context_used`: the part of the context that a Chat's last prompt and its reply took, from 0 to 1.
    - `dropped_messages`: the number of the chat's oldest messages that the model did not read.

    Example:
        reply = chat.send("Who are you?")
        print(reply)
        print(reply.usage.completion_tokens, "tokens in", reply.usage.seconds, "seconds")
    """

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    tool_results: tuple[ToolResult, ...]
    finish_reason: FinishReason
    usage: Usage
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    stop_text: str = ""
    citations: tuple[Citation, ...] = ()
    cited: tuple[Citation, ...] = ()
    dropped_messages: int = 0
    context_used: float = 0.0

    def __str__(self) -> str:
        return self.text

    @classmethod
    def from_events(cls, events: Iterable[Event]) -> Self:
        """Collect the events of a reply up to its Finish."""
        finish = Finish("stop")
        text: list[str] = []
        reasoning: list[str] = []
        calls: list[ToolCall] = []
        results: list[ToolResult] = []
        logprobs: list[TokenLogprob] = []
        prompt_logprobs: list[TokenLogprob] = []
        citations: tuple[Citation, ...] = ()
        passages = CitedPassages()
        dropped = 0
        for event in events:
            passages.take(event)
            match event:
                case Logprobs(tokens):
                    logprobs += tokens
                case PromptLogprobs(tokens):
                    prompt_logprobs += tokens
                case Text(piece):
                    text.append(piece)
                case Reasoning(piece):
                    reasoning.append(piece)
                case ToolCall():
                    calls.append(event)
                case ToolResult():
                    results.append(event)
                    citations += event.citations
                case Documents(citations=found):
                    citations += found
                case DroppedMessages(count):
                    dropped = count
                case Finish():
                    finish = event
        return cls(
            "".join(text),
            "".join(reasoning),
            tuple(calls),
            tuple(results),
            finish.reason,
            finish.usage,
            tuple(logprobs),
            tuple(prompt_logprobs),
            finish.stop_text,
            citations,
            tuple(passages.cited("".join(text))),
            dropped,
            finish.context_used,
        )

    def to_message(self) -> Message:
        """Return the assistant's message of a reply without tool results, to go on from with `Model.reply`."""
        calls = self.tool_calls if self.finish_reason == "stop" else ()
        return Message("assistant", self.text, self.reasoning, calls)
