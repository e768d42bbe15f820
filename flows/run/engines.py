"""What the task runs of a flow run work on: threads of its own process, or the processes of a Dask or Ray cluster.

Threads are enough for most: the work waits for S3 and the API. A cluster spreads it over machines. Its processes share
nothing with one another but the ledger, so what is the account's or the run's is shared out among them.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tasks.faults import SetupFault
from tasks.options import Options, RunSettings
from tasks.prefect_tasks import deliver_logs, prepare_process

log = logging.getLogger(__name__)

_END_SECONDS = 120.0
_BESIDE = 2  # task runs beside those that send and those that collect: polls, for which nobody should wait
_LOOK_SECONDS = 5.0
_CLUSTER_SECONDS = 120.0
"""How long a cluster may have no processes, or too many: one that is restarted or scaled comes back sooner."""


@dataclass(frozen=True)
class Engine:
    """A task runner that has been started.

    Attributes:
        runner: takes task runs.
        settings: as each of its processes works.
        processes: over how many the rates are shared out.
        count: counts them anew.
        now: seconds of a clock that only goes forward.
    """

    runner: TaskRunner[Any]
    settings: RunSettings
    processes: int
    count: Callable[[Any], int]
    now: Callable[[], float] = time.monotonic
    _watch: "_ClusterWatch" = field(default_factory=lambda: _ClusterWatch())

    @property
    def places(self) -> int:
        """How many task runs of one stage can be at work at once."""
        return self.processes * self.settings.options.workers

    def let_end(self, futures: Iterable[Any]) -> None:
        """Wait for what is under way when a run is ended: a cluster's processes are killed as it closes.

        What is being sent is put on record. Threads are waited for in any case.
        """
        if isinstance(self.runner, ThreadPoolTaskRunner):
            return
        deadline = self.now() + _END_SECONDS
        for future in futures:
            while self.now() < deadline and self._present():  # a cluster may have lost its processes
                if _ended(future):
                    break

    def look_at_cluster(self) -> None:
        """Look now and then whether the cluster is as it should be; threads of this process cannot be lost.

        Raises:
            SetupFault: the cluster has lost all its processes, or has more than the rates are shared out over.
        """
        if self.settings.options.engine == "threads":
            return
        watch, now = self._watch, self.now()
        if now - watch.looked < _LOOK_SECONDS:
            return
        watch.looked = now
        present = self._present()
        if 0 < present <= self.processes:
            watch.wrong_since = None
            return
        watch.wrong_since = now if watch.wrong_since is None else watch.wrong_since
        if now - watch.wrong_since < _CLUSTER_SECONDS:
            return
        cluster = self.settings.options.cluster or "this machine"
        if present == 0:
            raise SetupFault(
                f"the cluster at {cluster} has had no processes for {_CLUSTER_SECONDS:.0f} s: start some, and run the "
                "same again; what is on record is not sent again"
            )
        raise SetupFault(
            f"the cluster at {cluster} has grown to {present} processes, and the account's rates are shared out over "
            f"{self.processes}: run the same again with --processes {present}"
        )

    def _present(self) -> int:
        try:
            return self.count(self.runner)
        except Exception as error:  # noqa: BLE001  # a scheduler that is gone raises whatever it likes
            log.info("the processes of the cluster cannot be counted now: %s", error)
            return 0


@dataclass
class _ClusterWatch:
    """When a run last looked at its cluster, and since when it has been wrong."""

    looked: float = float("-inf")
    wrong_since: float | None = None


def _ended(future: Any) -> bool:
    """Whether a task run ends within a second."""
    try:
        future.result(timeout=1.0, raise_on_failure=False)
    except TimeoutError:
        return False
    except Exception:  # noqa: BLE001  # a cluster that lost a process raises whatever it likes: it has ended
        return True
    return True


def outcome_of(future: Any) -> Any:
    """What a task run gave, or the exception that ended it."""
    try:
        return future.result(raise_on_failure=False)
    except Exception as error:  # noqa: BLE001  # a cluster that lost a process raises whatever it likes
        return error


@contextmanager
def engine(settings: RunSettings) -> Iterator[Engine]:
    """Start what the options name, or join the cluster that they name.

    Raises:
        SetupFault: it is not installed, cannot be reached, has no processes, or more than there are rates for.
    """
    options = settings.options
    kind = _KINDS[options.engine]
    runner = kind.start(options)
    shared = RunSettings.model_validate({**dict(settings), "options": options.of_one_process(options.processes)})
    try:
        try:
            with _interrupts_kept_from_children():
                runner.__enter__()
                kind.prepare(runner)
                there = kind.count(runner)
        except ModuleNotFoundError as error:
            raise SetupFault(
                f"the processes of the cluster at {options.cluster} cannot load bulk-ocr: {error}. Install it there, "
                "in this version"
            ) from error
        except (OSError, RuntimeError, ValueError) as error:
            raise SetupFault(
                f"{options.engine} cannot be used at {options.cluster or 'this machine'}: {error}. Start the cluster, "
                "or correct --cluster"
            ) from error
        if there == 0:
            raise SetupFault(f"the cluster at {options.cluster} has no processes to work in: start some")
        if there > options.processes:
            raise SetupFault(
                f"the cluster at {options.cluster} can work on {there} task runs in processes of their own, and the "
                f"account's rates were to be shared out over {options.processes}: give --processes {there}"
            )
        try:
            yield Engine(runner, shared, options.processes, kind.count)
        finally:
            kind.conclude(runner)
    finally:
        runner.__exit__(None, None, None)


@contextmanager
def _interrupts_kept_from_children() -> Iterator[None]:
    """Ctrl-C is for this process: those that are started here let what they are sending end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _threads(options: Options) -> TaskRunner[Any]:
    return ThreadPoolTaskRunner(max_workers=2 * options.workers + _BESIDE)


def _dask(options: Options) -> TaskRunner[Any]:
    try:
        import dask
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise _missing("dask") from error
    # Its profiler walks every thread's stack a hundred times a second, and nobody looks at what it finds.
    dask.config.set({"distributed.worker.profile.enabled": False})
    if options.cluster:
        return DaskTaskRunner(address=options.cluster)
    return DaskTaskRunner(
        cluster_kwargs={
            "n_workers": options.processes,
            "threads_per_worker": 2 * options.workers + _BESIDE,
            "processes": True,
            "dashboard_address": None,
        }
    )


def _ray(options: Options) -> TaskRunner[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it reports to its makers otherwise
    try:
        from prefect_ray import RayTaskRunner
    except ImportError as error:
        raise _missing("ray") from error
    # A process of Ray's works on one task run at a time, and Ray starts as many as it has processors to give.
    here = {"num_cpus": options.processes, "include_dashboard": False}
    runner: TaskRunner[Any] = RayTaskRunner(address=options.cluster, init_kwargs={} if options.cluster else here)
    return runner


def _missing(name: str) -> SetupFault:
    return SetupFault(f"--engine {name} needs a package that is not installed: pip install 'bulk-ocr[{name}]'")


def _dask_processes(runner: Any) -> int:
    return len(runner.client.scheduler_info(n_workers=-1)["workers"])


def _deliver_dask_logs(runner: Any) -> None:
    """Have the processes of a Dask cluster send what they have logged, before it is closed."""
    try:
        runner.client.run(deliver_logs, on_error="ignore")
    except Exception as error:  # noqa: BLE001  # a scheduler that is gone raises whatever it likes
        log.warning("the last lines that the cluster's processes have logged may be missing here: %s", error)


def _ray_processes(_runner: Any) -> int:
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray has no types there
    return int(resources.get("CPU", 1))


@dataclass(frozen=True)
class _Kind:
    """What is particular about an engine.

    Attributes:
        start: makes the task runner.
        count: counts its processes.
        prepare: makes its processes ready for task runs.
        conclude: is called before it is closed.
    """

    start: Callable[[Options], Any]
    count: Callable[[Any], int]
    prepare: Callable[[Any], object] = lambda _runner: None
    conclude: Callable[[Any], None] = lambda _runner: None


_KINDS = {
    "threads": _Kind(_threads, lambda _runner: 1),
    "dask": _Kind(_dask, _dask_processes, lambda runner: runner.client.run(prepare_process), _deliver_dask_logs),
    "ray": _Kind(_ray, _ray_processes),
}
