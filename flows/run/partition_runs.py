"""The partitions of a backfill as subflow runs in Prefect's UI, each of which can be retried by itself.

A deployed run works on all partitions at once. What it did for one of them becomes a subflow run as soon as the
partition is finished, or when the run ends: a run of the same deployment, confined to that partition, in the state that
the partition is in. "Retry" in the UI starts it as a real run, which puts back what failed in that partition and goes
on with what is left of it.

It is created in a final state, never as running: a run that is killed leaves none behind that seems to run, and a
deployment's concurrency limit, which counts the states in between, is left alone. One costs a flow run, a task run and
three states in Prefect's database, so only partitions that the run has worked on get one, and so many at most.
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
"""Partitions of one run that get a subflow run; the table of partitions has all of them."""

_FLOW = "backfill"
_AT_ONCE = 5  # between two readings of the figures


class PartitionRuns:
    """The partitions that one run has worked on, as subflow runs of it.

    For a deployed run of the flow `backfill` only: nothing else can be retried from the UI, and the other flows do not
    go on until a partition is finished. A run that is confined to one partition is itself the run to retry.

    Args:
        backfill: the backfill that the run serves.
        selection: what the run was confined to.
        shard: which of several shards the run is; the first one speaks for all.
        clock: the time to go by.
    """

    def __init__(self, backfill: Backfill, selection: Selection, shard: int, clock: Clock) -> None:
        self._name, self._by = backfill.name, backfill.by
        self._only = frozenset(selection.partition)
        self._deployment, self._flow_run = deployment.id, flow_run.id
        deployed = bool(self._deployment and self._flow_run) and flow_run.flow_name == _FLOW
        self._wanted = deployed and shard == 1 and len(self._only) != 1
        self._server = PrefectServer(clock)
        self._before: dict[str, PartitionFigures] | None = None
        self._told: set[str] = set()
        self._parameters: dict[str, Any] = {}
        self._all_told = True

    def begin(self, figures: Figures) -> None:
        """Note how the partitions stood before the run did anything."""
        self._before = {partition.name: partition for partition in figures.partitions}

    def tell(self, figures: Figures, *, ending: bool = False) -> None:
        """Create the runs of the partitions that are finished; at the end, of all that were worked on.

        Args:
            figures: how the backfill stands.
            ending: whether the run ends.
        """
        if not self._wanted or self._before is None:
            return
        due = [partition for partition in figures.partitions if self._is_due(partition, ending=ending)]
        room = MOST - len(self._told)
        if len(due) > room and self._all_told:
            self._all_told = False
            log.info("only the first %d partitions of this run get a subflow run of their own", MOST)
        due = due[: room if ending else min(room, _AT_ONCE)]
        if due:
            self._server.tell(lambda: self._create(due), once=ending)

    def _is_due(self, partition: PartitionFigures, *, ending: bool) -> bool:
        if partition.name in self._told or (self._only and partition.name not in self._only):
            return False
        before = (self._before or {}).get(partition.name, PartitionFigures(name=partition.name))
        return _standing(partition) != _standing(before) and (ending or not (partition.new or partition.open))

    def _create(self, partitions: list[PartitionFigures]) -> None:
        with get_client(sync_client=True) as client:
            if not self._parameters:
                self._parameters = dict(client.read_flow_run(UUID(self._flow_run)).parameters)
            lines = []
            for partition in partitions:
                lines.append(self._create_one(client, partition))
                self._told.add(partition.name)
            client.create_logs(lines)

    def _create_one(self, client: SyncPrefectClient, partition: PartitionFigures) -> LogCreate:
        """Create the run of a partition. Returns the line of its log, for whoever wonders why there is no other."""
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
    """The task that stands for a subflow run in its parent does nothing itself."""


def _standing(partition: PartitionFigures) -> tuple[int, ...]:
    return partition.done, partition.failed, partition.aside, partition.open, partition.spent


def retry_parameters(parameters: Mapping[str, Any], name: str, by: str, partition: str) -> dict[str, Any]:
    """The parameters of a run that is confined to one partition, and puts back what failed in it.

    Args:
        parameters: of the run that worked on all of them, as the server has them.
        name: the backfill.
        by: how it is divided.
        partition: the partition.
    """
    selection = {**(parameters.get("selection") or {}), "by": by, "partition": [partition]}
    return {**parameters, "name": name, "selection": selection, "retry_failed": True}


def partition_state(partition: PartitionFigures) -> State[Any]:
    """The state that tells how a partition stands. None of them is a failure of Prefect's: see `final_state`."""
    words = f"{partition.finished:,} of {partition.total:,} documents finished"
    counts = ((partition.failed, "failed"), (partition.aside, "set aside"))
    words += "".join(f", {number:,} {what}" for number, what in counts if number)
    words += f"; {partition.spent:,} pages paid, ${partition.cost:,.4f}"
    if partition.new or partition.open:
        return Completed(name="Partly done", message=words)
    if partition.failed:
        return Completed(name="Some failed", message=words)
    if partition.aside:
        return Completed(name="Some set aside", message=words)
    return Completed(message=words)
