"""Runs a program as a child and passes SIGTERM on: `python -P service.py deployments.ceph.daemon PROGRAM …`.

The local stack's launcher ends a Python module when the process that started it is gone; this makes it fit for
programs that are not Python.
"""

import signal
import subprocess
import sys
from types import FrameType


def main() -> int:
    """Run the program and take over its status, as a shell does for one that was ended by a signal."""
    running: list[subprocess.Popen[bytes]] = []

    def stop(_number: int, _frame: FrameType | None) -> None:
        # A signal that comes before the program runs is lost: whoever sent it goes on to SIGKILL for the group.
        for program in running:
            program.terminate()

    signal.signal(signal.SIGTERM, stop)
    running.append(subprocess.Popen(sys.argv[1:]))
    status = running[0].wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
