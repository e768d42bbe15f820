"""The memory of a run's process does not grow with what it does."""

import gc
import os
import subprocess
import sys
import weakref

import pytest

from flows.run.memory import Remains


def test_what_task_runs_leave_in_cycles_is_freed_every_few_thousand_items() -> None:
    # Python itself looks for old cycles only after millions of allocations.
    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    remains, cycle = Remains(), Cycle()
    left = weakref.ref(cycle)
    gc.collect()
    gc.disable()
    try:
        del cycle
        remains.clear(1999)
        assert left() is not None
        remains.clear(1)
        assert left() is None
    finally:
        gc.enable()


HEAPS = """
import ctypes, os, sys, threading
from flows.run.memory import spare_memory

spare_memory()
held, ready, go = [], threading.Barrier(9), threading.Barrier(9)

def allocate():
    held.append([bytes(2000) for _ in range(50)])
    ready.wait()
    go.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
ready.wait()
ctypes.CDLL(None).malloc_stats()
go.wait()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heaps")
@pytest.mark.parametrize(("told", "most"), [(None, 2), ("4", 4)])
def test_threads_share_two_heaps_unless_the_environment_says_how_many(told: str | None, most: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    environment |= {} if told is None else {"MALLOC_ARENA_MAX": told}
    ran = subprocess.run([sys.executable, "-c", HEAPS], env=environment, capture_output=True, text=True, check=True)
    assert ran.stderr.count("Arena ") == most, ran.stderr
