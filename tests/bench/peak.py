"""A process that merges and prints the most memory it took, in bytes."""

import re
import resource
import sys
from pathlib import Path

from tests.bench.measure import merge_batches


def peak() -> int:
    """The peak of this process's resident memory."""
    status = Path("/proc/self/status")
    # On Linux, ru_maxrss of a process starts at the size of the one that started it, so a large pytest would hide
    # what is measured. The kernel's own mark, VmHWM, is this process's alone.
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    merge_batches(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    print(peak())
