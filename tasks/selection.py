"""Which documents of the source are meant: one object for submitting, planning and backfills."""

from tasks.models import Frozen


class Selection(Frozen):
    """What a run looks at. Everything under the source, unless it says otherwise."""


EVERYTHING = Selection()
