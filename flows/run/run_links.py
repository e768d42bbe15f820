"""Where a flow run is to be seen: its page in the UI of the Prefect server that is configured."""

import os
import uuid
from collections.abc import Callable

RunLink = Callable[[str | None], str | None]


def run_link() -> RunLink:
    """What gives the address of a flow run in the UI, or None where no server is configured or it is no flow run.

    The environment is asked alone: reading Prefect's profiles would take seconds.
    """
    ui = os.environ.get("PREFECT_UI_URL") or os.environ.get("PREFECT_API_URL", "").rstrip("/").removesuffix("/api")

    def link(run: str | None) -> str | None:
        if not ui or run is None:
            return None
        try:
            uuid.UUID(run)
        except ValueError:  # a process that ran no flow
            return None
        return f"{ui.rstrip('/')}/runs/flow-run/{run}"

    return link
