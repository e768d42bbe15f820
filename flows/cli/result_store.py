"""The store from which a command reads results, and the progress of reading them."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from flows.cli.arguments import ResultsArguments
from flows.cli.output import complain
from flows.cli.places import known_places
from flows.cli.prefect_setup import prepare_for_blocks
from flows.cli.progress import Display
from flows.run.progress import Progress
from tasks.access.open import open_results
from tasks.faults import SetupFault
from tasks.outputs.results import Results, Store
from tasks.store.object_store import ObjectStore

READERS = 8

Item = TypeVar("Item")


def store_of(arguments: ResultsArguments) -> Store:
    """Return a store that is opened on first use, so that local results need no S3 credentials."""

    def open_store() -> ObjectStore:
        prepare_for_blocks(arguments.credentials)
        return open_results(arguments.credentials, READERS, arguments.bucket)

    return open_store


def named_place(name_or_address: str) -> str:
    """Resolve the location of results: a place's name becomes its destination; a path or address stays as it is.

    Raises:
        SetupFault: the list of places cannot be read.
    """
    if "://" in name_or_address or Path(name_or_address).exists():
        return name_or_address
    destinations = (place.destination for place in known_places() if place.name == name_or_address)
    return next(destinations, name_or_address)


def require_results(results: Results) -> None:
    """Refuse a place without results, so that a misspelt address does not look like an empty destination.

    Raises:
        SetupFault: there is no result.
        TransientFault: the store is unavailable at the moment.
    """
    if next(results.files(), None) is None:
        raise SetupFault(
            f"there is no result at {results.place}: name a result, or a folder or destination with results"
        )


@contextmanager
def counting(doing: str, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Show how many results are finished, in the `with` block."""
    with Display(Console(stderr=True), quiet=quiet) as display:
        display.show(Progress(doing))
        yield lambda finished: display.show(Progress(f"{doing}: {finished} results so far"))


def counted(items: Iterable[Item], count: Callable[[int], None]) -> Iterator[Item]:
    """Yield items, and report before each how many were taken."""
    for finished, item in enumerate(items):
        count(finished)
        yield item


def complain_of_skipped(skipped: dict[str, str], count: int) -> None:
    """Report which results could not be read, and why."""
    for address, why in skipped.items():
        complain(f"{address} was left out: {why}")
    if count > len(skipped):
        complain(f"… and {count - len(skipped)} more were left out")
