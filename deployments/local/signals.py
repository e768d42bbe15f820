"""Stopping on SIGINT and SIGTERM alike, once."""

import signal
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def stop_on_signals() -> None:
    """Let either signal raise KeyboardInterrupt, also where a shell started us with SIGINT ignored."""
    for number in _SIGNALS:
        signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # Stopping is bounded; a second signal must not cut it short.
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
