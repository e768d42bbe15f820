"""Ctrl-C and SIGTERM: end the command and all waits of its threads."""

import _thread
import signal
from types import FrameType

from tasks.clock import Clock


class CommandClock(Clock):
    """The clock of a command, which a signal ends.

    Attributes:
        interrupted: whether a signal was received. A clock is also ended by a run that fails.
    """

    def __init__(self) -> None:
        super().__init__()
        self.interrupted = False

    def interrupt(self) -> None:
        """End all waits, from a signal handler."""
        self.interrupted = True
        # In a new thread: the one that handles the signal may be waiting on this clock, and hold its lock.
        _thread.start_new_thread(self.end, ())


CLOCK = CommandClock()


def end_on_signals() -> None:
    """Make Ctrl-C and SIGTERM raise KeyboardInterrupt in the main thread and end the waits of other threads."""
    signal.signal(signal.SIGTERM, _end)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # it is ignored for background jobs of a shell
        signal.signal(signal.SIGINT, _end)


def _end(_number: int, _frame: FrameType | None) -> None:
    CLOCK.interrupt()  # submissions in progress are still recorded
    raise KeyboardInterrupt
