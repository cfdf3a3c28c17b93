"""The request of POST /v1/completions."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, StrictInt, model_validator

from runtime.sampling import MAX_TOP_LOGPROBS, Sampling

from ..errors import ApiError
from ..generation.fields import LIST_LIMIT, Seed, StopText, merge_sampling, stop_texts
from ..generation.reply_format import ChatFormat, FormatFields, ReplyFormat, own_format
from ..limits import Limits
from .params import StreamOptions

TokenId = Annotated[StrictInt, Field(ge=0, lt=2**31)]
TokenIds = Annotated[list[TokenId], Field(min_length=1)]
Prompts = str | TokenIds | Annotated[list[str], Field(min_length=1), LIST_LIMIT]
NestedIds = Annotated[list[TokenIds], Field(min_length=1), LIST_LIMIT]

# Fields of completions that would change the reply, and the values that change nothing; generation/dialects has those
# that all APIs share.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "suffix": ("",),
    "include_stop_str_in_output": (False,),
    "truncate_prompt_tokens": (),
    "prompt_embeds": (),
    "logits_processors": ([],),
    "skip_special_tokens": (False,),
}
_CURES = {
    "suffix": "a completion goes at the end of the prompt",
    "skip_special_tokens": "special tokens are part of the text",
}


class TextStreamOptions(StreamOptions):
    """With vLLM's `continuous_usage_stats`, each chunk has the usage of its choice so far."""

    continuous_usage_stats: bool | None = None


class CompletionRequest(FormatFields):
    """A request to continue prompts, each a text, in which special tokens are plain text, or token ids. `logprobs`
    returns the log-probabilities of the tokens, with that many of the most probable ones; with `echo`, those of the
    prompt, too. `response_format`, and the fields from `stop_token_ids` on, are vLLM's."""

    prompt: Prompts | NestedIds
    max_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = 16
    n: Annotated[int, Field(ge=1)] | None = None
    best_of: Annotated[int, Field(ge=1)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = None
    seed: Seed | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    logit_bias: dict[str, float] | None = None
    stream_options: TextStreamOptions | None = None
    response_format: ChatFormat | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=1000)] | None = None
    ignore_eos: bool | None = None
    add_special_tokens: bool | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _reject_unsupported(cls, body: Any) -> Any:
        for name, neutral in _UNSUPPORTED.items() if isinstance(body, dict) else ():
            if body.get(name) is not None and body[name] not in neutral:
                cure = f": {_CURES[name]}" if name in _CURES else ""
                raise ApiError(400, f"{name} is not supported{cure}", param=name, code="unsupported_parameter")
        return body

    @property
    def format(self) -> ReplyFormat | None:
        """The format of the continuation; None for plain text. Raises ApiError for two formats, or an unsupported
        one."""
        return self.reply_format(own_format(self.response_format, "response_format"))

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """The prompts, each a text or token ids."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        return [prompt] if isinstance(prompt[0], int) else prompt

    @property
    def echoes_logprobs(self) -> bool:
        """Whether the log-probabilities of the prompt are asked for."""
        return bool(self.echo) and self.logprobs is not None

    @property
    def counts_tokens(self) -> bool:
        """Whether the response needs to know each token of the reply."""
        streamed = self.stream and self.stream_options and self.stream_options.continuous_usage_stats
        return self.logprobs is not None or bool(self.return_token_ids or streamed)

    def choices_per_prompt(self, limits: Limits) -> int:
        """Return `n`. Raises ApiError for more choices than a request may have, and for a `best_of` that is not n."""
        count, most = self.n or 1, limits.replies_per_request
        if self.best_of not in (None, count):
            raise ApiError(400, "best_of is not supported beyond n", param="best_of", code="unsupported_parameter")
        if count > most:
            raise ApiError(400, f"n may be at most {most}", param="n", code="invalid_value")
        if count * len(self.prompts) > most:
            message = f"there may be at most {most} choices: {len(self.prompts)} prompts with n {count} have more"
            raise ApiError(400, message, param="prompt", code="invalid_value")
        if self.max_tokens == 0 and not self.echo:
            raise ApiError(400, "max_tokens may be 0 only with echo", param="max_tokens", code="invalid_value")
        return count

    def sampling(self, own: Sampling, index: int) -> Sampling:
        """Return the checkpoint's `own` sampling with the request's settings, for the choice of that index."""
        sampling = merge_sampling(
            self,
            own,
            max_new_tokens=None,
            stop=stop_texts(self.stop),
            seed=None if self.seed is None else self.seed + index,
            logprobs=self.counts_tokens,
        )
        return sampling.override(
            max_new_tokens=self.max_tokens,
            top_logprobs=self.logprobs,
            prompt_logprobs=self.echoes_logprobs,
        )
