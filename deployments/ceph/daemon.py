"""Runs a program as a child and forwards SIGTERM: `python -P service.py deployments.ceph.daemon PROGRAM …`.

The local stack's launcher ends a Python module when the process that started it is gone. This module makes the launcher
usable for programs that are not written in Python.
"""

import signal
import subprocess
import sys
from types import FrameType


def main() -> int:
    """Run the program and return its exit status; after a signal, the status that a shell would return."""
    running: list[subprocess.Popen[bytes]] = []

    def stop(_number: int, _frame: FrameType | None) -> None:
        # A signal that arrives before the program runs is lost; its sender will send SIGKILL to the group.
        for program in running:
            program.terminate()

    signal.signal(signal.SIGTERM, stop)
    running.append(subprocess.Popen(sys.argv[1:]))
    status = running[0].wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
