"""The errors a user can meet. Each says in one line what happened, and in `hint` what to do about it.

EdgeError
├── CheckpointError        a checkpoint that is not one, is damaged, or is of an unsupported kind
├── ConversionError        a conversion that cannot start or whose result is not fit for use
│   ├── DiskFull           not enough room for it
│   └── VerificationError  the converted model does not speak as its checkpoint does
├── ModelFolderError       a model folder that is missing, damaged, or made by a later version
├── TemplateError          messages that the checkpoint's chat template cannot lay out
├── ToolError              a function that cannot become a tool
├── RequestError           settings or a saved chat that make no sense
│   ├── PromptTooLong      a prompt that does not fit the context
│   ├── UnsupportedSetting            a setting that this engine cannot hold
│   └── UnsupportedGrammar a grammar or schema that the engine does not compile, or not in time
└── BackendError           an engine that failed
    └── DeviceError        an engine or device that is not there
"""


class EdgeError(Exception):
    """What happened, in one line (`str(error)`), and the cure (`error.hint`)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class CheckpointError(EdgeError):
    pass


class ConversionError(EdgeError):
    pass


class DiskFull(ConversionError):
    pass


class VerificationError(ConversionError):
    pass


class ModelFolderError(EdgeError):
    pass


class TemplateError(EdgeError):
    pass


class ToolError(EdgeError):
    pass


class RequestError(EdgeError):
    pass


class PromptTooLong(RequestError):
    """The prompt has `prompt_tokens` tokens; at most `limit` fit. Of a prompt that is `cut`, only so many were counted:
    it has more."""

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
    """`setting` is its name in Sampling."""

    def __init__(self, message: str, *, hint: str = "", setting: str = "") -> None:
        super().__init__(message, hint=hint)
        self.setting = setting


class UnsupportedGrammar(RequestError):
    """`grammar` is the one that was refused, as the request had it."""

    def __init__(self, message: str, *, hint: str = "", grammar: object = None) -> None:
        super().__init__(message, hint=hint)
        self.grammar = grammar


class BackendError(EdgeError):
    pass


class DeviceError(BackendError):
    pass


class Notice(UserWarning):
    """Something that a caller should know and that stops nothing, such as a system message that a model cannot see."""
