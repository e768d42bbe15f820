"""Runs a module like `python -m`, and ends it when the process that started it is gone.

Started by file path (`python -P service.py MODULE [ARGUMENT …]`), in its own process group, with the reading
end of a pipe as standard input. The stack holds the writing end and never writes. However the stack's process
ends, SIGKILL included, the kernel closes that end, and this process reads the end of file. That works on any
POSIX system and has no race, while Linux's PR_SET_PDEATHSIG is sent as soon as the *thread* that started the
service ends.
"""

import os
import runpy
import signal
import sys
import threading
import time

GRACE_SECONDS = 10.0


def end_with_parent(lifeline: int) -> None:
    """Wait for the end of file, then ask this process to end, then end its whole group by force."""
    while os.read(lifeline, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)  # the time a service has to end by itself
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Take standard input as the lifeline and become the named module."""
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
