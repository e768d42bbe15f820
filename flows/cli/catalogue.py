"""Opens the catalogue for commands, with their credentials, and shows its progress on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from flows.cli.output import complain
from flows.cli.progress import Display
from flows.run.progress import Progress
from tasks.access.open import open_results
from tasks.catalogue.catalogue import Catalogue, open_catalogue
from tasks.faults import SetupFault
from tasks.options import Credentials
from tasks.steps.nearest import why_no_ledger
from tasks.store.location import Location
from tasks.store.object_store import ObjectStore
from tasks.store.settings import DestinationOptions

READERS = 16


def ledger_store(place: Location, credentials: Credentials, bucket: DestinationOptions) -> ObjectStore:
    """Open the store of a destination that has a ledger.

    Raises:
        SetupFault: there is no such bucket or no ledger, or reading it is not permitted.
    """
    objects = open_results(credentials, READERS, bucket)
    if (why := why_no_ledger(objects, place)) is not None:
        raise SetupFault(why)
    return objects


@contextmanager
def catalogue_of(objects: ObjectStore, place: Location) -> Iterator[Catalogue]:
    """Open the catalogue of a destination, bring it up to date, and report what it lacks.

    Raises:
        SetupFault: DuckDB is not installed, or the ledger cannot be read.
    """
    with Display(Console(stderr=True)) as display:

        def tell(doing: str, read: int, total: int) -> None:
            display.show(Progress(doing, read, total) if total else Progress(doing))

        with open_catalogue(objects, place, tell) as catalogue, display.aside():
            if catalogue.unreadable:
                complain(f"{catalogue.unreadable} records are of another version of this program and were left alone")
            if catalogue.unsaved:
                complain(f"the catalogue was not saved, and will be read again: {catalogue.unsaved}")
            yield catalogue
