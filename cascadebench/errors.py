"""The one exception that means: the input is wrong, and here is what to change."""


class InputError(Exception):
    """A user's mistake, told in one line that names file, key, value and what is allowed.

    The command line prints it without a traceback and exits with code 2, before any work begins.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
