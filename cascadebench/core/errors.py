"""The exceptions that are told in one line: the input is wrong, or something stops a run under way."""


class InputError(Exception):
    """A user's mistake, told in one line that names file, key, value and what is allowed.

    The command line prints it without a traceback and exits with code 2, before any work begins.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class Fault(InputError):
    """What stops a run under way: a picture that cannot be read, a loss that is not finite, a full disk.

    The command line prints it without a traceback, notes it in the run's ``failed.json`` and exits with code 1.

    Parameters
    ----------
    final : bool
        Another attempt would end in the same way, so none is made unless a person asks for it.
    """

    def __init__(self, message: str, final: bool = False) -> None:
        super().__init__(message)
        self.final = final
