"""`python -m deployments.local`: the local stack in the foreground, for use from other shells."""

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from deployments.local.signals import stop_on_signals
from deployments.local.stack import DEFAULT_DATA, UNWANTED, LocalStack, Recogniser, ServiceName, StackError

Port = Annotated[int | None, Parameter(show_default=False, validator=Number(gte=1, lte=65535))]

app = App(name="python -m deployments.local", help_format="plaintext", version_flags=[])


@app.default
def serve(
    *,
    data: Path = DEFAULT_DATA,
    recogniser: Recogniser = "ocr",
    s3_port: Port = None,
    upstage_port: Port = None,
    prefect_port: Port = None,
) -> None:
    """Start S3, the OCR API's stand-in and Prefect on this machine, and run until interrupted.

    Args:
        data: the data folder: objects, jobs, run history, logs.
        recogniser: how the stand-in reads a page: "ocr" recognises it, "text" uses its text layer.
        s3_port: port of the S3 server; a free one by default.
        upstage_port: port of the OCR API's stand-in; a free one by default.
        prefect_port: port of the Prefect server; a free one by default.
    """
    fixed_ports: dict[ServiceName, int | None] = {"s3": s3_port, "upstage": upstage_port, "prefect": prefect_port}
    stop_on_signals()
    try:
        print(f"Starting the local stack in {data} …", file=sys.stderr)
        ports = {name: port for name, port in fixed_ports.items() if port is not None}
        with LocalStack(data, recogniser=recogniser, ports=ports) as stack:
            print(_instructions(stack), flush=True)
            while True:
                stack.check()
                time.sleep(1)  # wait for a signal, and check every second whether a service has died
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
    except StackError as error:
        sys.exit(str(error))


def _instructions(stack: LocalStack) -> str:
    """Return the addresses, and the commands for another shell."""
    exports = [f"export {name}={shlex.quote(value)}" for name, value in stack.environment().items()]
    return "\n".join(
        [
            f"# S3       {stack.s3_url}",
            f"# OCR API  {stack.upstage_url}/v1",
            f"# Prefect  {stack.prefect_url}",
            f"# data     {stack.data}",
            "# To use it from another shell:",
            f"unset {' '.join(UNWANTED)}",
            *exports,
            "# Ctrl-C stops it; the data is kept.",
        ]
    )


if __name__ == "__main__":
    app()
