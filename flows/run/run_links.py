"""Links to flow runs in the UI of the configured Prefect server."""

import os
import uuid
from collections.abc import Callable

RunLink = Callable[[str | None], str | None]


def run_link() -> RunLink:
    """Return a function that maps a run to its address in the UI; None without a server, or if it is no flow run.

    Only the environment is consulted: reading Prefect's profiles would take seconds.
    """
    ui = os.environ.get("PREFECT_UI_URL") or os.environ.get("PREFECT_API_URL", "").rstrip("/").removesuffix("/api")

    def link(run: str | None) -> str | None:
        if not ui or run is None:
            return None
        try:
            uuid.UUID(run)
        except ValueError:  # a process without a flow run
            return None
        return f"{ui.rstrip('/')}/runs/flow-run/{run}"

    return link
