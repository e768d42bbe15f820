"""The memory of a run's process, which must not grow with the number of documents."""

import ctypes
import gc
import os
from contextlib import suppress
from functools import cache

from prefect.context import FlowRunContext

_OBJECTS_A_COLLECTION = 20_000
_ITEMS_A_CYCLE_COLLECTION = 2000
_HEAPS = 2
_M_ARENA_MAX = -8  # the number of this setting in glibc's malloc.h


@cache
def spare_memory() -> None:
    """Set up this process's memory management for runs.

    A page consists of thousands of small objects, so a garbage collection would be due with every other page, and would
    scan all of Prefect and boto3 each time.
    """
    gc.freeze()
    gc.set_threshold(_OBJECTS_A_COLLECTION, 20, 20)
    share_heaps()


@cache
def share_heaps() -> None:
    """Let new threads share two heaps of the C library, unless the environment says how many.

    By default, glibc opens up to eight heaps for each core, and each of them keeps gaps that no other can use. Heaps
    that threads have already got stay. Other C libraries have no such setting.
    """
    told = "MALLOC_ARENA_MAX" in os.environ or "glibc.malloc.arena_max" in os.environ.get("GLIBC_TUNABLES", "")
    if not told:
        with suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _HEAPS)


class Remains:
    """What Prefect keeps of task runs that have ended in this process.

    Until a flow run ends, Prefect keeps a state of some kilobytes for each result, in order to recognise results that
    are passed to other task runs. None is passed on here. Besides, a task run leaves reference cycles that hold its
    result, and with the settings of `spare_memory`, Python looks for old cycles only after millions of allocations.
    """

    def __init__(self) -> None:
        self._items = 0

    def clear(self, items: int) -> None:
        """Free what is left of a task run that has ended.

        Args:
            items: its number of items. Cycles are looked for every few thousand, which takes some 50 ms each time.
        """
        context = FlowRunContext.get()
        if context is not None:
            context.run_results.clear()
        self._items += items
        if self._items >= _ITEMS_A_CYCLE_COLLECTION:
            self._items = 0
            gc.collect()
