"""The memory of a run's process does not grow with what it does."""

import gc
import os
import platform
import subprocess
import sys
import weakref

import pytest

from flows.run.memory import Remains
from tests.waiting import PATIENCE


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
import ctypes, threading
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
if hasattr(ctypes.CDLL(None), "malloc_stats"):
    ctypes.CDLL(None).malloc_stats()
go.wait()
"""


@pytest.mark.parametrize(
    ("told", "most"),
    [({}, 2), ({"MALLOC_ARENA_MAX": "4"}, 4), ({"GLIBC_TUNABLES": "glibc.malloc.arena_max=4"}, 4)],
    ids=["nothing told", "by a variable", "by a tunable"],
)
def test_threads_share_two_heaps_unless_the_environment_says_how_many(told: dict[str, str], most: int) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")}
    ran = subprocess.run(
        [sys.executable, "-c", HEAPS], env=kept | told, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    if platform.libc_ver()[0] == "glibc":  # other C libraries have no such heaps; there, nothing may go wrong
        assert ran.stderr.count("Arena ") == most, ran.stderr
