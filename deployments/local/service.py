"""Runs a module like `python -m`, and ends it when the process that started it is gone.

It is started by file path (`python -P service.py MODULE [ARGUMENT …]`), in its own process group, with the read end of
a pipe as standard input. The stack holds the write end and never writes. However the stack's process ends, even by
SIGKILL, the kernel closes the write end, and this process reads end-of-file. This works on any POSIX system without a
race. Linux's PR_SET_PDEATHSIG would be sent as soon as the *thread* that started the service ends.
"""

import os
import runpy
import signal
import sys
import threading
import time

GRACE_SECONDS = 10.0


def end_with_parent(lifeline: int) -> None:
    """Wait for end-of-file, then send this process SIGTERM, and later kill its whole group."""
    while os.read(lifeline, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)  # the time that a service has to end by itself
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Watch standard input as the lifeline, and run the named module."""
    lifeline = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=end_with_parent, args=(lifeline,), name="lifeline", daemon=True).start()
    module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
