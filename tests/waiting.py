"""How long tests wait for what another thread, process or server does: one bound, which no machine is too slow for."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 400.0
"""Seconds. The bound of every wait; reached only when what is waited for never comes. pytest's own is above it."""

# A look may cost a server 30 ms of work: the pause after it is this many times as long as it took, so that looking
# leaves the processors to what is waited for.
_PAUSE = 4
_SHORTEST, _LONGEST = 0.05, 0.5  # seconds

Found = TypeVar("Found")


def processor_seconds() -> float:
    """What this process and its ended children have worked so far, for bounds on work: a clock counts others' too."""
    return sum(os.times()[:4])


def until(look: Callable[[], Found | None], what: str = "what was expected") -> Found:
    """Look until something is seen. Gives the first value that is true.

    Args:
        look: looks once; for what has no way to call us.
        what: what is waited for, for the message.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        began = time.monotonic()
        if found := look():
            return found
        ended = time.monotonic()
        assert ended < deadline, f"waited {PATIENCE:g} s for {what}"
        time.sleep(min(max(_SHORTEST, _PAUSE * (ended - began)), _LONGEST))  # between bounded looks
