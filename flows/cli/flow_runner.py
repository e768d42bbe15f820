"""Runs a flow in this process for a command, prints its report, and explains in one sentence why it ended early."""

import os
from collections.abc import Callable
from typing import Any

from rich.console import Console

from flows.cli.arguments import FlowArguments
from flows.cli.output import Page, complain, flush, print_json
from flows.cli.prefect_setup import prefect_fault, prepare_prefect, prove_prefect, start_temporary_server
from flows.cli.progress import Display
from flows.cli.signals import CLOCK
from flows.run.progress import Watcher, watching
from tasks.faults import ExitStatus, Fault
from tasks.store.location import Location


def run_flow(name: str, arguments: FlowArguments, parameters: dict[str, Any]) -> ExitStatus:
    """Run a flow in this process and print its report.

    Args:
        name: the flow.
        arguments: how to print it.
        parameters: the flow's parameters.

    Raises:
        Fault: the fault that ended the flow.
        KeyboardInterrupt: the command was interrupted.
    """
    for place in ("source", "destination"):
        if place in parameters:
            Location.parse(parameters[place])
    from tasks.access.environment import prove_key

    prove_key(arguments.credentials, arguments.options)
    options = arguments.options
    if name != "listen" and options.shards > 1 and "shard" not in options.model_fields_set:  # `listen` refuses shards
        complain(f"this is shard 1 of {options.shards}; each of the others needs a run of its own: --shard 2")
    prepare_prefect(arguments.verbose)
    prove_prefect()
    from flows.run.memory import share_heaps

    share_heaps()  # before Prefect starts threads
    start_temporary_server()
    import httpx
    from prefect import tags
    from prefect.exceptions import PrefectException

    from flows.backfill import backfill
    from flows.cli.run_report import show_report
    from flows.collect import collect as collect_flow
    from flows.listen import listen as listen_flow
    from flows.run.events import TERMINAL
    from flows.submit import submit as submit_flow
    from tasks.report import RunReport

    flows: dict[str, Callable[..., Any]] = {
        "backfill": backfill,
        "submit": submit_flow,
        "listen": listen_flow,
        "collect": collect_flow,
    }
    reports: list[RunReport] = []
    lost = None
    try:
        with Display(Console(stderr=True), quiet=arguments.verbose or arguments.quiet) as display, tags(TERMINAL):
            watching.set(Watcher(display.show, reports.append, CLOCK))
            outcome = flows[name](**parameters, return_state=True).result(raise_on_failure=False)
            if CLOCK.interrupted:  # where that met Prefect at work, it may have become an error of another kind
                raise KeyboardInterrupt
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        lost = outcome = error
    except ValueError:
        if not CLOCK.interrupted:
            raise
    if CLOCK.interrupted:
        raise KeyboardInterrupt
    if isinstance(outcome, Fault):
        raise outcome
    if reports:
        outcome = reports[0]
    if not isinstance(outcome, RunReport):
        raise prefect_fault(outcome) or outcome
    if arguments.json:
        print_json(outcome)
    else:
        show_report(outcome, Page())
    if outcome.ended:
        complain(outcome.ended)
    if outcome.refused:
        complain(outcome.refused)
    status = outcome.exit_status
    if outcome.nothing:
        complain(outcome.nothing)
        if arguments.allows_empty:
            status = ExitStatus.SOME_FAILED
    if lost is not None:
        complain(f"Prefect's server was lost on the way, so its history is incomplete; the ledger is not ({lost})")
        flush()
        os._exit(status)  # Prefect would try for minutes to deliver what is left of the history
    return status
