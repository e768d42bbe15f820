"""The partitions of a backfill as subflow runs in Prefect's UI, each of which can be retried separately.

A deployed run works on all partitions at once. When a partition is finished, or when the run ends, a subflow run is
created for it: a run of the same deployment, confined to the partition, in a state that shows how the partition ended.
"Retry" in the UI starts it as a real run, which puts back the partition's failed documents and processes the rest.

It is created in a final state, never as running: a killed run leaves no subflow run that seems to be running, and a
deployment's concurrency limit, which counts active states, is not affected. Each costs a flow run, a task run and three
states in Prefect's database, so only partitions that the run has worked on get one, up to a maximum.
"""

import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from prefect import Task, get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import LogCreate
from prefect.client.schemas.objects import State
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Pending

from flows.run.prefect_server import PrefectServer
from tasks.backfills.figures import Figures, PartitionFigures
from tasks.backfills.record import Backfill
from tasks.clock import Clock
from tasks.printable import printable
from tasks.selection import Selection

log = logging.getLogger(__name__)

MOST = 200
"""Maximum number of subflow runs for one run; the table of partitions has all partitions."""

_FLOW = "backfill"
_AT_ONCE = 5  # between two readings of the figures


class PartitionRuns:
    """The partitions that one run has worked on, as its subflow runs.

    Only for deployed runs of the flow `backfill`: no other run can be retried from the UI, and the other flows do not
    work until a partition is finished. If there is only one partition, or the run is confined to one, the run itself
    can be retried.

    Args:
        backfill: the backfill that the run serves.
        selection: the run's selection.
        shard: the run's shard number; the first shard creates the subflow runs for all.
        clock: the timer.
    """

    def __init__(self, backfill: Backfill, selection: Selection, shard: int, clock: Clock) -> None:
        self._name, self._by = backfill.name, backfill.by
        self._only = frozenset(selection.partition)
        self._deployment, self._flow_run = deployment.id, flow_run.id
        deployed = bool(self._deployment and self._flow_run) and flow_run.flow_name == _FLOW
        self._wanted = deployed and shard == 1 and len(self._only) != 1
        self._server = PrefectServer(clock)
        self._before: dict[str, PartitionFigures] | None = None
        self._created: set[str] = set()
        self._parameters: dict[str, Any] = {}
        self._below_maximum = True

    def begin(self, figures: Figures) -> None:
        """Note the state of the partitions before the run does anything."""
        self._before = {partition.name: partition for partition in figures.partitions}

    def tell(self, figures: Figures, *, ending: bool = False) -> None:
        """Create the subflow runs of finished partitions; at the end of the run, of all partitions it worked on.

        Args:
            figures: the backfill's figures.
            ending: whether the run ends.
        """
        if not self._wanted or self._before is None or len(figures.partitions) < 2:
            return
        due = [partition for partition in figures.partitions if self._is_due(partition, ending=ending)]
        room = MOST - len(self._created)
        if len(due) > room and self._below_maximum:
            self._below_maximum = False
            log.info("only the first %d partitions of this run get a subflow run of their own", MOST)
        due = due[: room if ending else min(room, _AT_ONCE)]
        if due:
            self._server.tell(lambda: self._create(due), once=ending)

    def _is_due(self, partition: PartitionFigures, *, ending: bool) -> bool:
        if partition.name in self._created or (self._only and partition.name not in self._only):
            return False
        before = (self._before or {}).get(partition.name, PartitionFigures(name=partition.name))
        return _counts(partition) != _counts(before) and (ending or not (partition.new or partition.open))

    def _create(self, partitions: list[PartitionFigures]) -> None:
        with get_client(sync_client=True) as client:
            if not self._parameters:
                self._parameters = dict(client.read_flow_run(UUID(self._flow_run)).parameters)
            lines = []
            for partition in partitions:
                lines.append(self._create_one(client, partition))
                self._created.add(partition.name)
            client.create_logs(lines)

    def _create_one(self, client: SyncPrefectClient, partition: PartitionFigures) -> LogCreate:
        """Create the subflow run of a partition. Returns its only log line, which explains where its log is."""
        name = printable(f"partition {partition.name}")
        shown_in_parent = client.create_task_run(
            Task(fn=_nothing, name=name),
            flow_run_id=UUID(self._flow_run),
            dynamic_key=partition.name,
            name=name,
            state=Pending(),
        )
        state = partition_state(partition)
        created = client.create_flow_run_from_deployment(
            UUID(self._deployment),
            name=printable(f"{self._name} {partition.name}"),
            parameters=retry_parameters(self._parameters, self._name, self._by, partition.name),
            state=state,
            parent_task_run_id=shown_in_parent.id,
        )
        return LogCreate(
            name=__name__,
            level=logging.INFO,
            message=f"{state.message}. The parent run did the work, and has its log. Retry starts a run of this "
            "partition alone, which puts back first what failed in it",
            timestamp=state.timestamp,
            flow_run_id=created.id,
        )


def _nothing() -> None:
    """The function of the task that represents a subflow run in its parent: does nothing."""


def _counts(partition: PartitionFigures) -> tuple[int, ...]:
    return partition.done, partition.failed, partition.aside, partition.open, partition.spent


def retry_parameters(parameters: Mapping[str, Any], name: str, by: str, partition: str) -> dict[str, Any]:
    """Return the parameters of a run that is confined to one partition and puts back its failed documents.

    Args:
        parameters: the parameters of the parent run, as stored on the server.
        name: the backfill.
        by: how it is divided into partitions.
        partition: the partition.
    """
    selection = {**(parameters.get("selection") or {}), "by": by, "partition": [partition]}
    return {**parameters, "name": name, "selection": selection, "retry_failed": True}


def partition_state(partition: PartitionFigures) -> State[Any]:
    """Return the state that shows how a partition ended. It is never a failed state in Prefect: see `final_state`."""
    words = f"{partition.finished:,} of {partition.total:,} documents finished"
    counts = ((partition.failed, "failed"), (partition.aside, "set aside"))
    words += "".join(f", {number:,} {what}" for number, what in counts if number)
    words += f"; {partition.spent:,} pages charged, ${partition.cost:,.4f}"
    if partition.new or partition.open:
        return Completed(name="Partly done", message=words)
    if partition.failed:
        return Completed(name="Some failed", message=words)
    if partition.aside:
        return Completed(name="Some set aside", message=words)
    return Completed(message=words)
