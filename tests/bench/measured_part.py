"""Runs the program that takes pages out of a document, and notes the most memory that it took.

Stands in for `tasks/documents/files/extract.py`, whose arguments it takes; see `tests.bench.splitting`.
"""

import os
import re
import resource
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    try:
        runpy.run_path(os.environ["BENCH_PART"], run_name="__main__")
    finally:
        # As in tests.bench.peak, which cannot be imported from here: nothing beside the script is on the path.
        status = Path("/proc/self/status")
        if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
            peak = int(found[1]) * 1024
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        with Path(os.environ["BENCH_PEAKS"]).open("a") as peaks:
            peaks.write(f"{peak}\n")
