"""Engines that execute task runs: threads of the flow run's own process, or processes of a Dask or Ray cluster.

Threads suffice for most runs, because the work waits for S3 and the API. A cluster spreads it over several machines.
Its processes share only the ledger, so the rates of the account and the run are divided among them.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tasks.faults import SetupFault
from tasks.options import Options, RunSettings
from tasks.prefect_tasks import deliver_logs, prepare_process

log = logging.getLogger(__name__)

_END_SECONDS = 120.0
_BESIDE = 2  # additional threads for polls, which should not wait behind sending and collecting
_LOOK_SECONDS = 5.0
_CLUSTER_SECONDS = 120.0
"""How long a cluster may have no processes, or too many: a restart or a change of scale takes less time."""


@dataclass(frozen=True)
class Engine:
    """A started task runner.

    Attributes:
        runner: Prefect's task runner.
        settings: the settings of each of its processes.
        processes: number of processes among which the rates are divided.
        count: counts the processes.
        now: a monotonic timer, in seconds.
    """

    runner: TaskRunner[Any]
    settings: RunSettings
    processes: int
    count: Callable[[Any], int]
    now: Callable[[], float] = time.monotonic
    _watch: "_ClusterWatch" = field(default_factory=lambda: _ClusterWatch())

    @property
    def places(self) -> int:
        """How many task runs of one stage can work at once."""
        return self.processes * self.settings.options.workers

    def let_end(self, futures: Iterable[Any]) -> None:
        """Wait for task runs in progress when a run is ended: a cluster's processes are killed when it closes.

        Submissions in progress are recorded first. Threads are always waited for.
        """
        if isinstance(self.runner, ThreadPoolTaskRunner):
            return
        deadline = self.now() + _END_SECONDS
        for future in futures:
            while self.now() < deadline and self._present():  # a cluster may have lost its processes
                if _ended(future):
                    break

    def look_at_cluster(self) -> None:
        """Check the cluster from time to time. Threads of this process need no check.

        Raises:
            SetupFault: the cluster has lost all its processes, or has more than the rates are divided among.
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
    """When the cluster was last checked, and since when its number of processes has been wrong."""

    looked: float = float("-inf")
    wrong_since: float | None = None


def _ended(future: Any) -> bool:
    """Whether a task run has ended or ends within a second."""
    try:
        future.result(timeout=1.0, raise_on_failure=False)
    except TimeoutError:
        return False
    except Exception:  # noqa: BLE001  # a cluster that lost a process raises whatever it likes: it has ended
        return True
    return True


def outcome_of(future: Any) -> Any:
    """Return the result of a task run, or the exception that ended it."""
    try:
        return future.result(raise_on_failure=False)
    except Exception as error:  # noqa: BLE001  # a cluster that lost a process raises whatever it likes
        return error


@contextmanager
def engine(settings: RunSettings) -> Iterator[Engine]:
    """Start the engine named by the options, or connect to their cluster.

    Raises:
        SetupFault: it is not installed, cannot be reached, or has no processes or too many.
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
                present = kind.count(runner)
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
        if present == 0:
            raise SetupFault(f"the cluster at {options.cluster} has no processes to work in: start some")
        if present > options.processes:
            raise SetupFault(
                f"the cluster at {options.cluster} can work on {present} task runs in processes of their own, and the "
                f"account's rates were to be shared out over {options.processes}: give --processes {present}"
            )
        try:
            yield Engine(runner, shared, options.processes, kind.count)
        finally:
            kind.conclude(runner)
    finally:
        runner.__exit__(None, None, None)


@contextmanager
def _interrupts_kept_from_children() -> Iterator[None]:
    """Keep Ctrl-C from child processes started in the `with` block, so that they can finish what they are sending."""
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
    # Dask's profiler samples every thread's stack a hundred times a second, and its data are not used.
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
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry to Ray's vendor
    try:
        from prefect_ray import RayTaskRunner
    except ImportError as error:
        raise _missing("ray") from error
    # A Ray process works on one task run at a time, and Ray starts one for each CPU.
    here = {"num_cpus": options.processes, "include_dashboard": False}
    runner: TaskRunner[Any] = RayTaskRunner(address=options.cluster, init_kwargs={} if options.cluster else here)
    return runner


def _missing(name: str) -> SetupFault:
    return SetupFault(
        f"--engine {name} needs a package that is not installed: pip install --constraint constraints.txt '.[{name}]'"
    )


def _dask_processes(runner: Any) -> int:
    return len(runner.client.scheduler_info(n_workers=-1)["workers"])


def _deliver_dask_logs(runner: Any) -> None:
    """Make the processes of a Dask cluster send their logs before it is closed."""
    try:
        runner.client.run(deliver_logs, on_error="ignore")
    except Exception as error:  # noqa: BLE001  # a scheduler that is gone raises whatever it likes
        log.warning("the last lines that the cluster's processes have logged may be missing here: %s", error)


def _ray_processes(_runner: Any) -> int:
    import ray

    resources: dict[str, float] = ray.cluster_resources()
    return ray_processes(resources)


def ray_processes(resources: Mapping[str, float]) -> int:
    """How many processes a Ray cluster works with.

    Args:
        resources: what the cluster has in all. Processors are not among it when none is left.
    """
    return int(resources.get("CPU", 0))


@dataclass(frozen=True)
class _Kind:
    """The functions that differ between engines.

    Attributes:
        start: creates the task runner.
        count: counts its processes.
        prepare: prepares its processes for task runs.
        conclude: called before it is closed.
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
