"""The errors a user can meet. Each says in one line what happened, and in `hint` what to do about it.

EdgeError
├── CheckpointError         a checkpoint that is missing, damaged or unsupported
├── ConversionError         a conversion that cannot start, or whose result is not fit for use
│   ├── ConversionCancelled the application cancelled it
│   ├── DiskFull            not enough disk space for it
│   └── VerificationError   a converted model that diverges from its checkpoint
├── ModelFolderError        a model folder that is missing, damaged, or made by a later version
├── TemplateError           messages that the checkpoint's chat template rejects
├── ToolError               a function that cannot become a tool
├── RequestError            invalid settings, arguments or files of a request
│   ├── PromptTooLong       a prompt that does not fit the context
│   ├── UnsupportedSetting  a sampling setting that the engine does not support
│   └── UnsupportedGrammar  a grammar or schema that the engine does not compile, or not in time
└── BackendError            an engine that failed
    └── DeviceError         an engine or device that is missing
"""


class EdgeError(Exception):
    """An error whose text says in one line what happened, and whose `hint` says what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class CheckpointError(EdgeError):
    """A checkpoint that is missing, damaged or unsupported."""


class ConversionError(EdgeError):
    """A conversion that cannot start, or whose result is not fit for use."""


class ConversionCancelled(ConversionError):
    """A conversion that the application cancelled."""


class DiskFull(ConversionError):
    """Not enough disk space for a conversion."""


class VerificationError(ConversionError):
    """A converted model that diverges from its checkpoint."""


class ModelFolderError(EdgeError):
    """A model folder that is missing, damaged, or made by a later version."""


class TemplateError(EdgeError):
    """Messages that the checkpoint's chat template rejects."""


class ToolError(EdgeError):
    """A function that cannot become a tool."""


class RequestError(EdgeError):
    """Invalid settings, arguments or files of a request."""


class PromptTooLong(RequestError):
    """The prompt has `prompt_tokens` tokens, more than the `limit`. With `cut`, counting stopped there: it has more."""

    def __init__(self, prompt_tokens: int, limit: int, cut: bool = False) -> None:
        super().__init__(
            f"the prompt has {'more than ' if cut else ''}{prompt_tokens:,} tokens, but at most {limit:,} fit",
            hint="shorten the message, start a new chat, or use a model with a longer context",
        )
        self.prompt_tokens = prompt_tokens
        self.limit = limit
        self.cut = cut

    def __reduce__(self) -> tuple[type["PromptTooLong"], tuple[int, int, bool]]:  # it comes out of other processes, too
        return type(self), (self.prompt_tokens, self.limit, self.cut)


class UnsupportedSetting(RequestError):
    """A field of Sampling, `setting`, that the engine does not support."""

    def __init__(self, message: str, *, hint: str = "", setting: str = "") -> None:
        super().__init__(message, hint=hint)
        self.setting = setting


class UnsupportedGrammar(RequestError):
    """A `grammar`, as the request had it, that the engine rejects."""

    def __init__(self, message: str, *, hint: str = "", grammar: object = None) -> None:
        super().__init__(message, hint=hint)
        self.grammar = grammar


class BackendError(EdgeError):
    """An engine that failed."""


class DeviceError(BackendError):
    """An engine or device that is missing."""


class Notice(UserWarning):
    """A warning that a caller should see although nothing stops, such as a system message that a model cannot see."""
