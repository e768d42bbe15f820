"""Backfills as the commands find them: by name, at a destination; with the nearest names where there is none."""

from collections.abc import Sequence

from tasks.access.open import storage_access
from tasks.backfills.record import Backfill
from tasks.backfills.store import Backfills
from tasks.context import RunContext, accounts_of, store_of
from tasks.faults import SetupFault
from tasks.options import Credentials, Options, RunSettings
from tasks.steps.figures import FiguresReader, settings_of
from tasks.steps.nearest import did_you_mean, why_no_ledger
from tasks.store.settings import AS_IT_IS, DestinationOptions

_LIVING = ("running", "planned", "paused")


class BackfillLedger:
    """The backfills of one destination.

    Args:
        destination: where results and ledger lie.
        credentials: where the secrets of S3 are.
        bucket: how the destination's bucket is used.

    Raises:
        SetupFault: there is no ledger, or it may not be read.
    """

    def __init__(
        self, destination: str, credentials: Credentials | None = None, bucket: DestinationOptions = AS_IT_IS
    ) -> None:
        self._settings = RunSettings(
            destination=destination,
            options=Options(destination=bucket),
            credentials=credentials or Credentials(),
        )
        self._objects = store_of(
            self._settings, accounts_of(self._settings, storage_access(self._settings.credentials))
        )
        self.context = RunContext(self._settings, self._objects)
        self.backfills: Backfills = self.context.backfills
        if (why := why_no_ledger(self._objects, self.context.destination)) is not None:
            raise SetupFault(why)

    def find(self, name: str | None) -> Backfill:
        """A backfill by its name, or the only one that there is.

        Raises:
            SetupFault: there is none of that name, or several where none was named.
        """
        names = self.backfills.names()
        place = self.context.destination
        if name is None:
            found = [record for known in names if (record := self.backfills.read(known)) is not None]
            running = [record for record in found if record.state in _LIVING]
            if len(running) == 1 or len(found) == 1:
                return (running or found)[0]
            if not found:
                raise SetupFault(
                    f"there is no backfill at {place}: 'bulk-ocr plan SOURCE {place} --save NAME' makes one"
                )
            raise SetupFault(f"there are {len(found)} backfills at {place}: name one of {_some(names)}")
        backfill = self.backfills.read(name) if name in names else None
        if backfill is None:
            nearest = did_you_mean(name, names)
            asked = f". Did you mean {nearest}?" if nearest else f"; there are {_some(names)}" if names else ""
            raise SetupFault(f"there is no backfill '{name}' at {place}{asked}")
        return backfill

    def reader(self, backfill: Backfill) -> FiguresReader:
        """What reads the figures of a backfill."""
        settings = settings_of(backfill, self._settings)
        objects = store_of(settings, accounts_of(settings, storage_access(settings.credentials)))
        return FiguresReader(RunContext(settings, objects), backfill.name)


def _some(names: Sequence[str]) -> str:
    some = ", ".join(sorted(names)[:10])
    return f"{some}, …" if len(names) > 10 else some
