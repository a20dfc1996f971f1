"""Errors, few of them, classified by what to do next."""


class CemlError(Exception):
    """Anything that CEML says on purpose; its text is meant for a person."""


class SettingsError(CemlError):
    """The person must change something: the text names the field, the value, what is allowed and the remedy."""


class Unavailable(CemlError):
    """This hardware, file or permission is not here: the text names the path and the remedy."""


class Temporary(CemlError):
    """It failed this time: try again after `delay_s` seconds."""

    def __init__(self, message: str, *, delay_s: float = 1.0) -> None:
        super().__init__(message)
        self.delay_s = delay_s


class Refused(CemlError):
    """The device would not take this value: the text says what was asked, what came and the range.

    Attributes:
        knob: Name of the knob that refused, e.g. `gpu_hz`.
    """

    def __init__(self, message: str, *, knob: str) -> None:
        super().__init__(message)
        self.knob = knob


def leaves(error: BaseException) -> list[BaseException]:
    """The errors inside a group of errors (a task group raises those), flat and in order."""
    inner: tuple[BaseException, ...] | None = getattr(error, "exceptions", None)
    return [error] if inner is None else [leaf for child in inner for leaf in leaves(child)]


def combined(error: BaseException) -> CemlError | None:
    """A group that holds nothing but errors meant for a person, as one of them; None where there is any other."""
    found = leaves(error)
    told = [leaf for leaf in found if isinstance(leaf, CemlError)]
    if len(told) < len(found):
        return None
    kind = SettingsError if all(isinstance(leaf, SettingsError) for leaf in told) else CemlError
    return kind("\n".join(dict.fromkeys(str(leaf) for leaf in told)))


def place_in_plugin(error: BaseException) -> str | None:
    """Where a plugin's file raised this, be it in a library that it called: "FILE line N"; None where it was we."""
    told, trace = None, error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if module.startswith("ceml_plugin_"):  # as plugins/ calls what it reads from a file
            told = f"{trace.tb_frame.f_code.co_filename} line {trace.tb_lineno}"
        elif module.partition(".")[0] == "ceml":
            told = None
        trace = trace.tb_next
    return told


def raised_by_code(error: BaseException) -> bool:
    """Whether code raised it, not Ctrl-C nor whoever interrupts what hangs; where nothing awaits, nobody cancels."""
    return isinstance(error, Exception | SystemExit | GeneratorExit) or type(error).__name__ == "CancelledError"


def of_a_plugin(error: BaseException) -> CemlError | None:
    """What a plugin's file raised, in words; None where it was we, or something meant for a person already."""
    if isinstance(error, CemlError) or not raised_by_code(error):
        return None
    told = place_in_plugin(error)
    if told is None:
        return None
    check = f"ceml plugin check {told.rpartition(' line ')[0]}:FACTORY"
    return CemlError(f"{told} raised {type(error).__name__}: {error}; what else is wrong with it: {check}")
