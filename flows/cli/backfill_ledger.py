"""Finds a command's backfill by name in a destination's ledger, and suggests similar names if there is none."""

from collections.abc import Sequence

from tasks.access.open import storage_access
from tasks.backfills.record import Backfill
from tasks.backfills.store import Backfills
from tasks.context import RunContext, accounts_of, store_of
from tasks.faults import SetupFault
from tasks.options import Credentials, Options, RunSettings
from tasks.similar_names import did_you_mean
from tasks.steps.figures import FiguresReader, settings_of
from tasks.steps.nearest import why_no_ledger
from tasks.store.settings import AS_IT_IS, DestinationOptions

_LIVING = ("running", "planned", "paused")


class BackfillLedger:
    """The backfills of one destination.

    Args:
        destination: the S3 prefix of results and ledger.
        credentials: where the S3 credentials come from.
        bucket: settings of the destination's bucket.

    Raises:
        SetupFault: there is no ledger, or reading it is not permitted.
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
        """Find a backfill by its name; without a name, the only one.

        Raises:
            SetupFault: there is none of that name, or no name was given and there is not exactly one.
        """
        names = self.backfills.names()
        place = self.context.destination
        if name is None:
            records = [record for known in names if (record := self.backfills.read(known)) is not None]
            running = [record for record in records if record.state in _LIVING]
            if len(running) == 1 or len(records) == 1:
                return (running or records)[0]
            if not records:
                raise SetupFault(
                    f"there is no backfill at {place}: 'bulk-ocr plan SOURCE {place} --save NAME' makes one"
                )
            raise SetupFault(f"there are {len(records)} backfills at {place}: name one of {_some(names)}")
        backfill = self.backfills.read(name) if name in names else None
        if backfill is None:
            nearest = did_you_mean(name, names)
            suggestion = f". Did you mean {nearest}?" if nearest else f"; there are {_some(names)}" if names else ""
            raise SetupFault(f"there is no backfill '{name}' at {place}{suggestion}")
        return backfill

    def reader(self, backfill: Backfill) -> FiguresReader:
        """Return a reader of a backfill's figures."""
        settings = settings_of(backfill, self._settings)
        objects = store_of(settings, accounts_of(settings, storage_access(settings.credentials)))
        return FiguresReader(RunContext(settings, objects), backfill.name)


def _some(names: Sequence[str]) -> str:
    some = ", ".join(sorted(names)[:10])
    return f"{some}, …" if len(names) > 10 else some
