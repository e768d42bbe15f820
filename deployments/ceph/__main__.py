"""`python -m deployments.ceph --data DIR`: a throw-away Ceph cluster in the foreground, for use from other shells."""

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
    """Start a throw-away Ceph cluster with an S3 gateway on this machine, and run until interrupted.

    Args:
        data: folder for everything; all but the logs is deleted in the end.
    """
    stop_on_signals()
    try:
        print(f"Starting Ceph in {data} …", file=sys.stderr)
        with CephCluster(data) as cluster:
            print(_instructions(cluster), flush=True)
            while True:
                cluster.check()
                time.sleep(1)  # in the foreground until a signal; looks each second whether a service has died
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
    except StackError as error:
        sys.exit(str(error))


def _instructions(cluster: CephCluster) -> str:
    """The address, and what to type in another shell."""
    exports = [f"export {name}={shlex.quote(value)}" for name, value in cluster.environment().items()]
    unwanted = " ".join(name for name in UNWANTED if name.startswith("AWS_"))
    return "\n".join(
        [
            f"# S3    {cluster.s3_url}",
            f"# data  {cluster.data}",
            "# To use it from another shell:",
            f"unset {unwanted}",
            *exports,
            "# Ctrl-C stops it and deletes what is stored; the logs stay.",
        ]
    )


if __name__ == "__main__":
    app()
