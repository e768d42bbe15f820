"""`python -m deployments.ceph --data DIR`: a disposable Ceph cluster in the foreground, for use from other shells."""

import shlex
import sys
import time
from pathlib import Path

from cyclopts import App

from deployments.ceph.cluster import CephCluster
from deployments.local.signals import stop_on_signals
from deployments.local.stack import UNWANTED, StackError

app = App(name="python -m deployments.ceph", help_format="plaintext", version_flags=[])


@app.default
def serve(*, data: Path) -> None:
    """Start a disposable Ceph cluster with an S3 gateway on this machine, and run until interrupted.

    Args:
        data: the data folder; everything except the logs is deleted at the end.
    """
    stop_on_signals()
    try:
        print(f"Starting Ceph in {data} …", file=sys.stderr)
        with CephCluster(data) as cluster:
            print(_instructions(cluster), flush=True)
            while True:
                cluster.check()
                time.sleep(1)  # wait for a signal, and check every second whether a daemon has died
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
    except StackError as error:
        sys.exit(str(error))


def _instructions(cluster: CephCluster) -> str:
    """Return the address, and the commands for another shell."""
    exports = [f"export {name}={shlex.quote(value)}" for name, value in cluster.environment().items()]
    unwanted = " ".join(name for name in UNWANTED if name.startswith("AWS_"))
    return "\n".join(
        [
            f"# S3    {cluster.s3_url}",
            f"# data  {cluster.data}",
            "# To use it from another shell:",
            f"unset {unwanted}",
            *exports,
            "# Ctrl-C stops it and deletes the data, except the logs.",
        ]
    )


if __name__ == "__main__":
    app()
