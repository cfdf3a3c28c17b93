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
    """An error whose text says in one line what happened, and whose `hint` says what to do about it. All errors of
    glm4-edge are EdgeErrors.

    Example:
        try:
            edge.Chat("./nowhere")
        except edge.EdgeError as exc:
            print(f"{exc}. {exc.hint}")
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class CheckpointError(EdgeError):
    """A checkpoint that is missing, damaged or unsupported: no GLM-4, a missing shard, a name that no hub has.

    Example:
        try:
            edge.convert("./GLM-5", "./glm5-int4")
        except edge.CheckpointError as exc:
            print(exc)  # there is no folder './GLM-5'
    """


class ConversionError(EdgeError):
    """A conversion that cannot start, or whose result is not fit for use: an unknown recipe, a target that exists.

    Example:
        try:
            edge.convert("./GLM-4-9B-0414", "./glm4-int4")
        except edge.ConversionError as exc:
            print(exc)  # 'glm4-int4' exists already
    """


class ConversionCancelled(ConversionError):
    """A conversion that the application cancelled.

    Example:
        cancellation = edge.Cancellation()
        cancellation.cancel()  # from a button, in any thread
        try:
            edge.convert("./GLM-4-9B-0414", "./glm4-new", cancellation=cancellation)
        except edge.ConversionCancelled:
            print("nothing was left behind")
    """


class DiskFull(ConversionError):
    """Not enough disk space for a conversion. The text names the bytes that it needs and those that are free.

    Example:
        try:
            folder = edge.convert("./GLM-4-9B-0414", "./glm4-int4")
        except edge.DiskFull:
            print("Free some space, or choose another disk.")
        except edge.ConversionError:
            folder = edge.inspect("./glm4-int4")  # it exists already
    """


class VerificationError(ConversionError):
    """A converted model that diverges from its checkpoint; it never appears under its name.

    Example:
        try:
            edge.convert("./GLM-4-9B-0414", "./glm4-int4", recipe="int4")
        except edge.VerificationError:
            print("Try a larger recipe, such as int8.")
        except edge.ConversionError as exc:
            print(exc)
    """


class ModelFolderError(EdgeError):
    """A model folder that is missing, damaged, or made by a later version.

    Example:
        try:
            edge.inspect("./nowhere")
        except edge.ModelFolderError as exc:
            print(exc.hint)  # `edge convert CHECKPOINT FOLDER` makes one
    """


class TemplateError(EdgeError):
    """Messages that the checkpoint's chat template rejects, or a template that is not valid.

    Example:
        try:
            reply = chat.send("Hi")
        except edge.TemplateError as exc:
            print(f"{exc}. {exc.hint}")
    """


class ToolError(EdgeError):
    """A function that cannot become a tool: a parameter without a type, two tools of one name.

    Example:
        def untyped(city):
            return f"It rains in {city}."

        try:
            edge.Tool.from_function(untyped)
        except edge.ToolError as exc:
            print(exc)  # the parameter city of the tool untyped has no type
    """


class RequestError(EdgeError):
    """Invalid settings, arguments or files of a request.

    Example:
        try:
            chat.send("Hi", temperature=9)
        except edge.RequestError as exc:
            print(f"{exc}: {exc.hint}")  # temperature is 9: it may be 0 (greedy) to 5
    """


class PromptTooLong(RequestError):
    """The prompt has `prompt_tokens` tokens, more than the `limit`. With `cut`, counting stopped there: it has more.

    Example:
        try:
            chat.send("word " * 100_000)
        except edge.PromptTooLong as exc:
            print(f"{exc.prompt_tokens} tokens, {exc.limit} fit")
            chat.history = chat.history[-4:]
    """

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
    """A setting of Sampling, named by `setting`, that the engine does not support.

    Example:
        try:
            chat.send("Hi", frequency_penalty=0.5)
        except edge.UnsupportedSetting as exc:
            print(exc.setting)
    """

    def __init__(self, message: str, *, hint: str = "", setting: str = "") -> None:
        super().__init__(message, hint=hint)
        self.setting = setting


class UnsupportedGrammar(RequestError):
    """A `grammar`, as the request had it, that the engine rejects.

    Example:
        try:
            chat.send("Who are you?", answer=edge.Regex("[a-z]{3,9}"))
        except edge.UnsupportedGrammar as exc:
            print(exc.grammar)
    """

    def __init__(self, message: str, *, hint: str = "", grammar: object = None) -> None:
        super().__init__(message, hint=hint)
        self.grammar = grammar


class BackendError(EdgeError):
    """An engine that failed: it ran out of memory, its process ended, a server did not answer.

    Example:
        try:
            reply = chat.send("Hi")
        except edge.BackendError as exc:
            print(f"{exc}. {exc.hint}")
    """


class DeviceError(BackendError):
    """An engine or device that is missing.

    Example:
        try:
            edge.Model("./glm4-int4", device="GPU.7")
        except edge.DeviceError as exc:
            print(exc)  # there is no device GPU.7 here
    """


class Notice(UserWarning):
    """A warning that a caller should see although nothing stops, such as a system message that a model cannot see.

    Example:
        import warnings

        warnings.simplefilter("error", edge.Notice)  # or "ignore", or "always"
    """
