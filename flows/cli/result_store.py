"""The store that a command reads results from, and its progress over many of them."""

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
from tasks.outputs.results import Store
from tasks.store.object_store import ObjectStore

READERS = 8

Item = TypeVar("Item")


def store_of(arguments: ResultsArguments) -> Store:
    """Opens the store of the destination when it is asked for, which for results on this machine is never."""

    def open_store() -> ObjectStore:
        prepare_for_blocks(arguments.credentials)
        return open_results(arguments.credentials, READERS, arguments.bucket)

    return open_store


def named_place(name_or_address: str) -> str:
    """Where results lie: a file, a folder, an address, or a place's destination where a place is named.

    Raises:
        SetupFault: the list of places cannot be read.
    """
    if "://" in name_or_address or Path(name_or_address).exists():
        return name_or_address
    found = (place.destination for place in known_places() if place.name == name_or_address)
    return next(found, name_or_address)


@contextmanager
def counting(doing: str, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Show how many results are finished, for as long as it lasts."""
    with Display(Console(stderr=True), quiet=quiet) as display:
        display.show(Progress(doing))
        yield lambda finished: display.show(Progress(f"{doing}: {finished} results so far"))


def counted(items: Iterable[Item], count: Callable[[int], None]) -> Iterator[Item]:
    """Give items, and tell how many were taken before each."""
    for finished, item in enumerate(items):
        count(finished)
        yield item


def complain_of_skipped(skipped: dict[str, str], count: int) -> None:
    """Say which results could not be read, and why."""
    for address, why in skipped.items():
        complain(f"{address} was left out: {why}")
    if count > len(skipped):
        complain(f"… and {count - len(skipped)} more were left out")
