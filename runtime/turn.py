"""A turn of a chat: rounds of replies and tool calls, until the model answers."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from . import tool_run
from .cancellation import Cancellation
from .context_window import ContextWindow, Overflow
from .documents.reader import DocumentLike
from .errors import RequestError
from .events import DroppedMessages, Event, Finish, FinishReason, ToolCall, ToolResult, Usage
from .history import History
from .messages import Message
from .model import Model
from .reply.constraint import Constraint
from .reply.reply import Reply
from .sampling import Sampling
from .tool_call import failed, run_call
from .tools import Tool

if TYPE_CHECKING:
    import asyncio

    from .documents.search import Embed

Approve = Callable[[ToolCall], bool]
DECLINED = "the user declined this call"


@dataclass(frozen=True, slots=True)
class ToolPolicy:
    """Settings with which the calls of a turn run: the limits of a run and its result, the function that approves a
    call, the thread of the tools, and the event loop of async ones."""

    worker: tool_run.ToolWorker
    timeout: float | None = tool_run.TIMEOUT
    max_characters: int = tool_run.MAX_CHARACTERS
    approve: Approve | None = None
    loop: "asyncio.AbstractEventLoop | None" = None


@dataclass(slots=True)
class Turn:
    """One turn, which adds its messages to the history: those `sent`, then replies and tool results. It adds them when
    it ends, unless it failed before the first reply. `template_variables` are further ones of the template. With the
    `overflow` "drop", the prompt leaves out what the `window` has no room for."""

    model: Model
    history: History
    sent: Sequence[Message]
    tools: dict[str, Tool]
    sampling: Sampling
    constraint: Constraint
    policy: ToolPolicy
    cancellation: Cancellation
    window: ContextWindow
    overflow: Overflow = "refuse"
    template_variables: Mapping[str, Any] | None = None
    _dropped: int = 0
    _new: list[Message] = field(default_factory=list)
    _unanswered: list[ToolCall] = field(default_factory=list)

    def generate(self, max_rounds: int) -> Generator[Event, None, None]:
        """Yield the events of the turn, the last a Finish. Closing the generator stops the model."""
        self.history.begin_turn()
        usage, events, stop_text, context_used = Usage(), list[Event](), "", 0.0
        constraint, limit = self.constraint, self.sampling.max_new_tokens
        offered = [tool.to_json() for tool in self.tools.values()]
        reason: FinishReason = "rounds"
        try:
            for _ in range(max_rounds):
                left = None if limit is None else limit - usage.completion_tokens
                if left is not None and left <= 0:
                    reason = "length"
                    break
                sampling = replace(self.sampling, max_new_tokens=left)
                prompt = yield from self._fit_prompt()
                begun = self.model.reply(
                    prompt,
                    offered,
                    sampling,
                    constraint,
                    self.cancellation,
                    template_variables=self.template_variables,
                )
                with closing(begun) as reply:
                    for event in reply:
                        events.append(event)
                        if not isinstance(event, Finish):
                            yield event
                collected, events = Reply.from_events(events), []
                usage += collected.usage
                context_used = self._context_used(collected.usage)
                reason, stop_text = collected.finish_reason, collected.stop_text
                if reason == "cancelled" and not (collected.text or collected.reasoning):
                    break
                self._new.append(collected.to_message())
                if reason != "stop" or not collected.tool_calls:
                    break
                constraint = replace(constraint, must_call=())  # it has been
                self._unanswered = list(collected.tool_calls)
                yield from self._run_tools()
                if self.cancellation.cancelled:
                    reason = "cancelled"
                    break
                if self._unanswered:  # the application answers them
                    self._unanswered = []
                    break
                reason = "rounds"
        except GeneratorExit:
            collected = Reply.from_events(events)
            if collected.text or collected.reasoning:
                self._new.append(Message("assistant", collected.text, collected.reasoning))
            raise
        finally:
            self._new += [
                Message("tool", "cancelled", tool_call_id=call.id, name=call.name) for call in self._unanswered
            ]
            self.history.end_turn((*self.sent, *self._new) if self._new else ())
        yield Finish(reason, usage, stop_text, context_used=context_used)

    def _context_used(self, usage: Usage) -> float:
        """Return the part of the context that a prompt and its reply took."""
        limit = self.model.backend.max_prompt_tokens
        return min((usage.prompt_tokens + usage.completion_tokens) / limit, 1.0) if limit else 0.0

    def generate_with(
        self, documents: Sequence[DocumentLike], embed: "Embed | None", max_rounds: int
    ) -> Generator[Event, None, None]:
        """Read the documents, add them to the messages, and yield what these contain of them, then the turn's
        events."""
        from .documents.question import add_documents

        try:
            self.sent, contained = add_documents(
                self.sent,
                documents,
                context=self.model.backend.max_prompt_tokens,
                reply_tokens=self.sampling.max_new_tokens,
                count_tokens=self._count_tokens,
                embed=embed,
                cancellation=self.cancellation,
            )
        except RequestError:
            if not self.cancellation.cancelled:
                raise
            yield Finish("cancelled")
            return
        yield contained
        yield from self.generate(max_rounds)

    def _count_tokens(self, prompt: str | Sequence[Message]) -> int:
        """Return the number of tokens of a text, or of messages that are sent after the history."""
        if isinstance(prompt, str):
            return self.window.count_text(prompt)
        earlier = self.history.messages
        if self.overflow == "drop":  # documents take the place of earlier turns
            earlier = tuple(message for message in earlier if message.role == "system")
        return self.window.count_tokens((*earlier, *prompt))

    def _fit_prompt(self) -> Generator[Event, None, tuple[Message, ...]]:
        """Return the messages of the next prompt. Yields how many the window leaves out, if they are more than
        before."""
        messages = (*self.history.messages, *self.sent, *self._new)
        if self.overflow == "refuse":
            return messages
        excerpt = self.window.fit(messages)
        if excerpt.dropped > self._dropped:
            self._dropped = excerpt.dropped
            yield DroppedMessages(self._dropped)
        return excerpt.messages

    def _run_tools(self) -> Generator[Event, None, None]:
        """Run the calls in order, and append their results. Calls that the application answers remain unanswered, as do
        those left when the reply is cancelled."""
        for call in tuple(self._unanswered):
            if self.cancellation.cancelled:
                return
            tool = self.tools.get(call.name)
            if tool is not None and tool.run is None and not call.problem:
                continue
            result = self._run(call)
            if self.cancellation.cancelled and result.error:
                return
            self._unanswered.remove(call)
            self._new.append(result_message(self.model, result))
            yield result

    def _run(self, call: ToolCall) -> ToolResult:
        policy = self.policy
        if policy.approve is not None and call.name in self.tools and not call.problem:
            approved = policy.approve(call)
            if not isinstance(approved, bool):
                raise RequestError(
                    f"approve returned {type(approved).__name__}", hint="return True to run the call, False to decline"
                )
            if not approved:
                return failed(call, DECLINED)
        result = run_call(
            self.tools,
            call,
            timeout=policy.timeout,
            max_characters=policy.max_characters,
            cancellation=self.cancellation,
            worker=policy.worker,
            loop=policy.loop,
        )
        return describe_pictures(self.model, result)


def describe_pictures(model: Model, result: ToolResult) -> ToolResult:
    """Return the result as the model reads it: with words for its pictures, unless the model reads them."""
    if not result.pictures or model.reads_result_pictures:
        return result
    count = len(result.pictures)
    shown = "1 picture, shown to the user" if count == 1 else f"{count} pictures, shown to the user"
    words = "\n".join([model.family.result_picture] * count) if model.family.result_picture else f"[{shown}]"
    return replace(result, content=f"{result.content.rstrip()}\n{words}".lstrip())


def result_message(model: Model, result: ToolResult) -> Message:
    """Return a result as a message, with its pictures if the model reads them: after the text."""
    pictures = result.pictures if model.reads_result_pictures else ()
    places = (len(result.content),) * len(pictures)
    return Message(
        "tool",
        result.content,
        tool_call_id=result.call_id,
        name=result.name,
        pictures=pictures,
        picture_places=places,
    )
