"""Signals that ask a process to stop: what a cluster sends before it kills, and Ctrl-C."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""SIGUSR1 too, which Slurm is often told to send: a training that gets it by itself stops as at SIGTERM."""


def ignore_signals(*_: object) -> None:
    """Go on at every such signal, in a process that works for one which finishes its step first."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class Stopped(BaseException):
    """A process ends because a signal asked for it; no framework's ``except Exception`` may take it for a failure.

    Parameters
    ----------
    number : int
        The signal.
    message : str
        How the line goes on after the signal's name; kept as ``how``.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}{message}")
        self.number, self.how = number, message
        self.exit_code = 128 + number


class Interruption:
    """Whether a signal has asked this process to stop.

    Attributes
    ----------
    number : int
        The first signal that came; 0: none.
    """

    def __init__(self) -> None:
        self.number = 0
        self._at_once: str | None = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.number = self.number, self.number or number
        if self._at_once is not None:
            if not again:
                raise Stopped(number, self._at_once)
        elif again and number == signal.SIGINT:
            raise Stopped(number, ", a second time; what came after the last checkpoint is lost")

    @contextmanager
    def watched(self, at_once: str | None) -> Iterator[None]:
        """Take the signals while the block runs.

        Parameters
        ----------
        at_once : str or None
            How the message goes on of a signal that stops the block where it stands; None: the signal is only noted.
        """
        outer, self._at_once = self._at_once, at_once
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._at_once = outer
