"""The job of a chat request: its parameters, built once, and the replies that a model generates from them."""

from collections.abc import Callable
from dataclasses import replace

from runtime.cancellation import Cancellation
from runtime.errors import PromptTooLong, UnsupportedGrammar
from runtime.model import Model
from runtime.reply.calls.syntaxes import arguments_spelling
from runtime.reply.constraint import admit

from ..errors import context_overflow
from ..pool.dispatcher import ReplyJob
from ..pool.workers import ReplyEvents
from .params import GenerationParams


class GenerationJob(ReplyJob):
    """The replies of a chat request. Its parameters are built once, in the thread that needs them first."""

    def __init__(
        self,
        model: str | None,
        count: int,
        to_params: Callable[[Model], GenerationParams],
        *,
        needs_check: bool,
        prompt_param: str = "messages",
    ) -> None:
        super().__init__(model, count)
        self._prompt_param = prompt_param
        self.needs_check = needs_check
        self._to_params = to_params
        self._params: GenerationParams | None = None

    def check(self, model: Model, cancellation: Cancellation) -> None:
        """Reject a grammar that the engine rejects or cannot compile in time."""
        params = self._build_params(model)
        sampling = params.sampling.resolve()
        spelled = arguments_spelling(model.family)
        constraint = admit(params.constraint, model.backend, cancellation, sampling, spelled)
        self._params = replace(params, constraint=constraint)

    def start(self, model: Model, index: int) -> ReplyEvents:
        """Begin the reply of that index."""
        params = self._build_params(model).with_seed_offset(index)
        tools = [spec.tool.to_json() for spec in params.tools]
        variables = params.template_variables
        return model.reply(
            params.messages, tools, params.sampling, params.constraint, template_variables=variables or None
        )

    def map_error(self, error: BaseException) -> BaseException:
        """Name the field whose grammar the engine rejects, or that makes the prompt too long."""
        if isinstance(error, PromptTooLong):
            return context_overflow(error, self._prompt_param)
        if self._params is None or not isinstance(error, UnsupportedGrammar):
            return error
        mapped = self._params.grammar_error(error)
        mapped.__cause__ = error
        return mapped

    def _build_params(self, model: Model) -> GenerationParams:
        if self._params is None:
            self._params = self._to_params(model)
        return self._params
