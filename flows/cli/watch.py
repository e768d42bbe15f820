"""The command `watch`: a backfill's progress, from any terminal and for all runs. Reads the ledger only."""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators
from rich.console import Console
from rich.live import Live

from flows.cli.arguments import ANYWHERE, BackfillAt
from flows.cli.output import Page, complain, print_json
from flows.cli.places import known_places
from flows.cli.prefect_setup import prepare_for_blocks
from flows.cli.signals import CLOCK
from tasks.faults import ExitStatus, SetupFault, TransientFault
from tasks.similar_names import did_you_mean


def watch(
    name: Annotated[str | None, Parameter(help="The backfill, or its destination; the only one by default.")] = None,
    *,
    place: BackfillAt = ANYWHERE,
    once: Annotated[bool, Parameter(negative="", help="Print it once and end.")] = False,
    metrics: Annotated[
        Path | None, Parameter(help="Also write them to this file each time, for Prometheus' node exporter: NAME.prom.")
    ] = None,
    seconds: Annotated[float, Parameter(validator=validators.Number(gte=1, lte=86_400), help="How often to look.")] = 2,
) -> ExitStatus:
    """Show a backfill's progress until it is finished. Works from any terminal, needs no API key, sends nothing.

    With --json, prints one object per reading. Exit status 0 if the backfill is finished, 1 if it is not.
    """
    prepare_for_blocks(place.credentials)
    from flows.cli.backfill_figures import picture
    from flows.cli.backfill_ledger import BackfillLedger
    from flows.cli.openmetrics import write_metrics
    from flows.run.telemetry import open_telemetry

    places = {known.name for known in known_places()}
    is_place = place.at is None and name in places
    if place.at is None and name is not None and not (is_place or name.startswith("s3://")):
        nearest = did_you_mean(name, places)
        suggestion = f"did you mean the place {nearest}? Otherwise " if nearest else ""
        raise SetupFault(
            f"there is no place '{name}': {suggestion}say where the ledger of the backfill {name} lies, with --at "
            "s3://bucket/prefix or BULK_OCR_DESTINATION"
        )
    if name is not None and (name.startswith("s3://") or is_place):
        name, place = None, replace(place, at=name)
    ledger = BackfillLedger(place.destination, place.credentials)
    backfill = ledger.find(name)
    reader = ledger.reader(backfill)
    console = Console(stderr=False)
    telemetry = open_telemetry(time.monotonic)
    live = not (once or place.json) and console.is_terminal
    screen = Live(console=console, auto_refresh=False, vertical_overflow="crop") if live else None
    try:
        while True:
            try:
                figures = reader.read()
            except TransientFault as fault:
                complain(f"{fault}; looking again")
                figures = None
            else:
                if figures is None:
                    raise SetupFault(f"the backfill {backfill.name} was deleted")
            if figures is not None and metrics is not None:
                write_metrics(figures, metrics)
            if figures is not None and telemetry is not None:
                telemetry.send(figures)
            if figures is not None and place.json:
                print_json(figures)
            elif figures is not None and screen is not None:
                screen.start()
                screen.update(picture(figures, console.width, console.height), refresh=True)
            elif figures is not None:
                Page(console if console.is_terminal else None).draw(partial(picture, figures))
            over = figures is not None and figures.state in ("finished", "cancelled") and not figures.served_by
            if figures is not None and (once or over):
                return ExitStatus.DONE if figures.state == "finished" else ExitStatus.SOME_FAILED
            CLOCK.sleep(max(seconds, reader.pause))
    finally:
        if screen is not None:
            screen.stop()
