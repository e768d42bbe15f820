"""Ctrl-C and SIGTERM: they end the command, and every wait in every one of its threads."""

import _thread
import signal
from types import FrameType

from tasks.clock import Clock


class CommandClock(Clock):
    """The clock of a command, which a signal ends.

    Attributes:
        interrupted: whether a signal came. A clock is also ended by a run that fails.
    """

    def __init__(self) -> None:
        super().__init__()
        self.interrupted = False

    def interrupt(self) -> None:
        """End all waits, from a signal handler."""
        self.interrupted = True
        # By a thread of its own: the one that handles the signal may be in the middle of a wait by this clock, and
        # hold its lock.
        _thread.start_new_thread(self.end, ())


CLOCK = CommandClock()


def end_on_signals() -> None:
    """Let Ctrl-C and SIGTERM raise KeyboardInterrupt in the main thread, and end the waits of the others."""
    signal.signal(signal.SIGTERM, _end)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in the background of a shell
        signal.signal(signal.SIGINT, _end)


def _end(_number: int, _frame: FrameType | None) -> None:
    CLOCK.interrupt()  # what is being sent at this moment is still put on record
    raise KeyboardInterrupt
