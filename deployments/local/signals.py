"""Handles SIGINT and SIGTERM in the same way, once."""

import signal
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def stop_on_signals() -> None:
    """Make both signals raise KeyboardInterrupt, even if the shell started this process with SIGINT ignored."""
    for number in _SIGNALS:
        signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # Stopping takes a limited time; a second signal must not interrupt it.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
