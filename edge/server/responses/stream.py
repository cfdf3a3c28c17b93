"""The response of POST /v1/responses while it is generated, and the events of its stream."""

import time
from typing import Any
from uuid import uuid4

from runtime import strict_json
from runtime.events import Event, Finish, Logprobs, Reasoning, Text, ToolCall, ToolCallDelta, Usage
from runtime.sampling import Sampling

from ..errors import ApiError
from ..openai.tokens import TokenReply
from ..pool.event_stream import SSE, SSE_COMMENT, sse
from .context import Context
from .items import new_id
from .request import ResponsesRequest
from .store.record import Item
from .tools import ToolSelection


class ResponseStream:
    """An encoder of a reply's events as OpenAI's stream of events. It collects them in `whole`, the response object."""

    media_type = SSE
    heartbeat = SSE_COMMENT

    def __init__(
        self, body: ResponsesRequest, context: Context, selection: ToolSelection, name: str, sampling: Sampling
    ) -> None:
        choice, params = body.tool_choice or "auto", sampling.resolve()
        self._custom_tools = selection.custom
        self.whole: Item = {
            "id": f"resp_{uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "completed_at": None,
            "model": name,
            "status": "in_progress",
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": (body.metadata or {}) | selection.metadata,
            "output": [],
            "previous_response_id": context.previous,
            "conversation": {"id": context.conversation} if context.conversation else None,
            "reasoning": body.reasoning or {"effort": None, "summary": None},
            "store": body.store is not False,
            "text": {"format": {"type": "text"}}
            | (body.text.model_dump(by_alias=True, exclude_none=True) if body.text else {}),
            "truncation": body.truncation or "disabled",
            "user": body.user,
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "temperature": params.temperature if body.temperature is None else body.temperature,
            "top_p": params.top_p if body.top_p is None else body.top_p,
            "tool_choice": choice if isinstance(choice, str) else choice.model_dump(exclude_none=True),
            "tools": [tool.model_dump(exclude_none=True) for tool in body.tools or ()],
            "usage": None,
        }
        self._sequence_number = 0
        self._logprobs: list[Item] = []  # of the next text
        self._open: Item | None = None  # the item in progress, the last of the output
        self._pieces: list[str] = []  # its text or arguments so far

    def opening(self) -> str:
        """Encode the response, empty yet."""
        return self._send("response.created", response=self.whole) + self._send(
            "response.in_progress", response=self.whole
        )

    def ending(self) -> str:
        """Encode nothing: the last event has the whole response."""
        return ""

    def failure(self, error: ApiError) -> str:
        """Encode an error, with the incomplete response."""
        self._end("failed")
        self.whole["error"] = {"code": _failure_code(error), "message": str(error)}
        return self._send("response.failed", response=self.whole)

    def cancel(self) -> None:
        """End a response that is still in progress, since its client has disconnected."""
        if self.whole["status"] == "in_progress":
            self._end("cancelled")

    def _end(self, status: str) -> None:
        self._join()
        if self._open is not None:
            self._open["status"] = "incomplete"
        self.whole["status"] = status

    def encode(self, index: int, event: Event) -> str:
        """Encode an event, after the events that close the item before it."""
        match event:
            case Logprobs(tokens):
                self._logprobs = TokenReply.of(tokens)
            case Text(text):
                return self._delta("message", text)
            case Reasoning(text):
                return self._delta("reasoning", text)
            case ToolCallDelta(id, name, arguments):
                out = self._begin_call(id, name)
                self._pieces.append(arguments)
                if name in self._custom_tools:
                    return out  # its text is known at its end
                position = self._position()
                return out + self._send("response.function_call_arguments.delta", delta=arguments, **position)
            case ToolCall(_, _, id, complete):
                return self._close(complete=complete)
            case Finish(reason, usage):
                return self._finish(reason, usage)
        return ""

    def _delta(self, kind: str, text: str) -> str:
        out, part, item = "", "output_text" if kind == "message" else "reasoning_text", self._open
        if item is None or item["type"] != kind:
            item = {"type": kind, "id": new_id(kind)}
            item |= {"status": "in_progress", "content": []}
            own: Item = {"role": "assistant"} if kind == "message" else {"summary": []}
            item |= own
            out = self._begin(item)
            new: Item = {"type": part, "text": ""}
            new |= {"annotations": [], "logprobs": []} if kind == "message" else {}
            out += self._send("response.content_part.added", part=new, content_index=0, **self._position())
            item["content"].append(new)
        self._pieces.append(text)
        more: Item = {}
        if kind == "message":
            more, self._logprobs = {"logprobs": self._logprobs}, []
            item["content"][0]["logprobs"] += more["logprobs"]
        return out + self._send(f"response.{part}.delta", delta=text, content_index=0, **more, **self._position())

    def _begin_call(self, call_id: str, name: str) -> str:
        if self._open is not None and self._open.get("call_id") == call_id:
            return ""
        custom = name in self._custom_tools
        kind = "custom_tool_call" if custom else "function_call"
        item = {
            "type": kind,
            "id": new_id(kind),
            "call_id": call_id,
            "name": name,
            "input" if custom else "arguments": "",
        }
        return self._begin(item | {"status": "in_progress"})

    def _begin(self, item: Item) -> str:
        out = self._close()
        self._open, self._pieces = item, []
        self.whole["output"].append(item)
        return out + self._send("response.output_item.added", item=item, output_index=len(self.whole["output"]) - 1)

    def _join(self) -> None:
        """Set the open item's text or arguments to what has come so far."""
        if self._open is not None and self._open["type"] == "function_call":
            self._open["arguments"] = "".join(self._pieces)
        elif self._open is not None and self._open["type"] == "custom_tool_call":
            self._open["input"] = _custom_input("".join(self._pieces))
        elif self._open is not None and self._open["content"]:
            self._open["content"][0]["text"] = "".join(self._pieces)

    def _close(self, *, complete: bool = True) -> str:
        if (item := self._open) is None:
            return ""
        self._join()
        out, position = "", self._position()
        item["status"] = "completed" if complete else "incomplete"
        if item["type"] == "function_call":
            done = {"arguments": item["arguments"], "name": item["name"]}
            out += self._send("response.function_call_arguments.done", **done, **position)
        elif item["type"] == "custom_tool_call":
            out += self._send("response.custom_tool_call_input.delta", delta=item["input"], **position)
            out += self._send("response.custom_tool_call_input.done", input=item["input"], **position)
        else:
            (part,) = item["content"]
            more: Item = {"logprobs": part["logprobs"]} if part["type"] == "output_text" else {}
            out += self._send(f"response.{part['type']}.done", text=part["text"], content_index=0, **more, **position)
            out += self._send("response.content_part.done", part=part, content_index=0, **position)
        out += self._send("response.output_item.done", item=item, output_index=position["output_index"])
        self._open = None
        return out

    def _finish(self, reason: str, usage: Usage) -> str:
        cut_off = reason == "length"
        out = self._close(complete=not cut_off)
        self.whole["status"] = "incomplete" if cut_off else "completed"
        self.whole["completed_at"] = None if cut_off else int(time.time())
        self.whole["incomplete_details"] = {"reason": "max_output_tokens"} if cut_off else None
        self.whole["usage"] = usage_object(usage)
        return out + self._send(f"response.{self.whole['status']}", response=self.whole)

    def _position(self) -> Item:
        """Return where the last item is, which is the one in progress."""
        output = self.whole["output"]
        return {"item_id": output[-1]["id"], "output_index": len(output) - 1}

    def _send(self, kind: str, **fields: Any) -> str:
        out = sse({"type": kind, "sequence_number": self._sequence_number} | fields, kind)
        self._sequence_number += 1
        return out


def usage_object(usage: Usage) -> Item:
    """Return the token counts of a response. No engine counts those of the reasoning."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _failure_code(error: ApiError) -> str:
    """Return OpenAI's code of a failed response. Codex compacts the conversation at context_length_exceeded."""
    if error.code == "context_length_exceeded":
        return error.code
    return "rate_limit_exceeded" if error.status == 429 else "invalid_prompt" if error.status < 500 else "server_error"


def _custom_input(arguments: str) -> str:
    """Return the text of a call to a custom tool, which the model was offered as a function with one string."""
    try:
        found = strict_json.parse(arguments)
    except ValueError:
        return arguments
    text = found.get("input") if isinstance(found, dict) else None
    return text if isinstance(text, str) else arguments
