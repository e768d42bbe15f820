"""How long tests wait for what another thread, process or server does: one bound, which no machine is too slow for."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 400.0
"""Seconds. The bound of every wait; reached only when what is waited for never comes. pytest's own is above it."""

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
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {PATIENCE:g} s for {what}"
        time.sleep(0.05)  # between bounded looks
    return found
