"""The steps as Prefect tasks: readable names and states, retries, and the rule for when no further item is started.

A task run handles one document, or a chunk of them if there are more than Prefect's server should record one by one.
Transient faults are retried by the API client; Prefect retries a task that died.
"""

import asyncio
import logging
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging.handlers import APILogHandler
from prefect.plugins import load_prefect_collections
from prefect.states import Completed, Failed

from tasks.access.open import open_access
from tasks.context import RunContext, open_context
from tasks.faults import AccountFault, Cancelled, CredentialsRefused, EndsRun, Fault, TransientFault
from tasks.job.outcome import Outcome
from tasks.job.record import Document
from tasks.options import RunSettings
from tasks.printable import escape_logs, printable
from tasks.steps.collect import collect_job
from tasks.steps.poll import poll_job
from tasks.steps.submit import submit_document
from tasks.store.aside import AsideNote, AsideNotes
from tasks.store.ledger import Held
from tasks.tally import StepResult

log = logging.getLogger(__name__)

_DELIVERY_SECONDS = 30.0
_PROFILES_SAFELY = (3, 11, 12)
"""The first Python in which a process cannot hang forever while a profiler lists its threads' stacks.

Until then, a garbage collection inside `sys._current_frames` could deadlock it:
https://github.com/python/cpython/issues/106883
"""
_in_chunk: ContextVar[bool] = ContextVar("in_chunk", default=False)
"""Whether the current document is one of many in a task run, so that its successes are not logged one by one."""

Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)
Value = TypeVar("Value")


class Work(Generic[Item_co]):
    """The work of a task run. A plain object: Prefect would search all fields of anything else for futures.

    Args:
        settings: the run's settings.
        flow_run: the flow run's id.
        items: documents, or jobs with their records as just read or written.
    """

    def __init__(self, settings: RunSettings, flow_run: str | None, items: Sequence[Item_co]) -> None:
        self.settings, self.flow_run, self.items = settings, flow_run, items


def _died(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether to retry a failed task run: only if its process died, not if the task itself reported a fault."""
    result = state.result(raise_on_failure=False)
    return isinstance(result, BaseException) and not isinstance(result, Fault)


def _step(name: str, run_name: str) -> Callable[[Callable[..., Any]], Task[Any, Any]]:
    return task(
        name=name,
        task_run_name=run_name,
        retries=2,
        retry_delay_seconds=[2, 10],
        retry_jitter_factor=0.5,
        retry_condition_fn=_died,
        cache_policy=NO_CACHE,  # the ledger records what is done; Prefect's results must not compete with it
        persist_result=False,
    )


def _worth_telling(record: logging.LogRecord) -> bool:
    """Whether a line goes to Prefect's server: for a chunk of documents, only faults and a summary.

    Every line is a row in the server's database, and costs both the run and the server half a millisecond.
    """
    return record.levelno > logging.INFO or not _in_chunk.get()


def attach_logs() -> None:
    """Send the steps' ordinary logging to the run's log in the UI, with every line made printable."""
    escape_logs()
    for name in ("tasks", "flows"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        if not any(isinstance(handler, APILogHandler) for handler in logger.handlers):
            handler = APILogHandler()
            handler.addFilter(_worth_telling)
            logger.addHandler(handler)


async def prepare_process(dask_worker: Any) -> None:
    """Load what Prefect needs for its first task run, in a process of a Dask cluster, and stop a harmful profiler.

    Prefect loads every installed integration before its first task run, and task runs that start together in the
    threads of one process would all do so at once: minutes of work on a busy machine.

    Args:
        dask_worker: Dask's worker of this process, which Dask passes by this name.
    """
    profiler = dask_worker.periodic_callbacks.get("profile")
    if profiler is not None and sys.version_info < _PROFILES_SAFELY:
        profiler.stop()
    await asyncio.to_thread(load_prefect_collections)


async def deliver_logs() -> None:
    """Send the logs of a process of a Dask cluster, which is killed when the cluster is closed."""
    for handler in _api_log_handlers():
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(handler.flush), _DELIVERY_SECONDS)


def _deliver_from_ray(settings: RunSettings) -> None:
    """Send the logs of a process of a Ray cluster, which may be killed after its single task run."""
    if settings.options.engine == "ray":
        for handler in _api_log_handlers():
            handler.flush()


def _api_log_handlers() -> list[APILogHandler]:
    return [handler for handler in logging.getLogger("tasks").handlers if isinstance(handler, APILogHandler)]


def _context(work: Work[Any]) -> RunContext:
    attach_logs()  # a cluster's process may not have done this yet
    context = open_context(work.settings, work.flow_run, open_access)
    _ = context.client  # fail before anything is claimed if there is no API key
    return context


@_step("submit", "submit {label}")
def submit_step(work: Work[Document], label: str) -> Any:
    """Submit documents, several at a time; no further one is started once nothing more can be sent."""
    context = _context(work)

    def sends_on(outcome: Outcome) -> bool:
        return not (outcome.budget_used_up or context.client.stopped)

    result = work_through(context, work.items, submit_document, sends_on)
    _log_chunk(result, label)
    _deliver_from_ray(work.settings)
    return _state(result, label)


@_step("collect", "collect {label}")
def collect_step(work: Work[Held], label: str) -> Any:
    """Collect finished jobs, several at a time."""
    context = _context(work)
    result = work_through(context, work.items, collect_job, lambda _: True)
    _log_chunk(result, label)
    _deliver_from_ray(work.settings)
    return _state(result, label)


@_step("poll", "poll {label}")
def poll_step(work: Work[Held], label: str) -> Any:
    """Poll many jobs, several at a time; reports those that can be collected."""
    result, context = StepResult(), _context(work)

    def take(held: Held, call: Future[bool]) -> bool:
        written = context.records.take(held.job.id)
        if written is not None:
            result.still_open.append(written)
        try:
            if call.result():
                result.ready.append(held)
        except AccountFault as fault:
            result.refused = result.refused or str(fault)
            return False
        except CredentialsRefused:
            raise
        except Fault as fault:
            log.warning("%s: %s; polling again later", held.job.document.uri, fault)
        return True

    _several(context, work.items, partial(poll_job, handed_on=True), take, poll_job)
    # While nothing is ready, this would be most of a run's log.
    log.log(logging.INFO if result.ready else logging.DEBUG, "%d of %s can be collected", len(result.ready), label)
    return result


def _log_chunk(result: StepResult, label: str) -> None:
    """Log the outcomes of a chunk of documents in one line."""
    if len(result.outcomes) < 2:
        return
    kinds = Counter(outcome.kind for outcome in result.outcomes)
    counts = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    sent, received = (sum(getattr(outcome, name) for outcome in result.outcomes) for name in ("pages_sent", "pages"))
    log.info("%s: %s; %d pages sent, %d published", label, counts, sent, received)


def work_through(
    context: RunContext,
    items: Sequence[Item],
    step: Callable[[RunContext, Item], Outcome],
    goes_on: Callable[[Outcome], bool],
) -> StepResult:
    """Run a step for several items at a time.

    Args:
        context: the run's context.
        items: documents, or jobs whose records were just read.
        step: the step.
        goes_on: whether another item is started after an outcome. After a fault that ends the run, none is.

    Returns:
        The outcomes, and the fault that ends the run, if any.
    """
    result = StepResult()

    def act(context: RunContext, item: Item) -> Outcome:
        try:
            outcome = step(context, item)
        except EndsRun:
            raise
        except Fault as fault:  # one document's fault must not lose the counts of the others
            outcome = _put_off(context, item, fault)
        except Exception as error:  # nor must a bug
            log.exception("unexpected; the next pass retries it")
            met = getattr(error, "outcome", None)
            outcome = met if isinstance(met, Outcome) else _put_off(context, item, error)
        if outcome.set_aside:
            _note_aside(context, outcome)
        return outcome

    def take(item: Item, call: Future[Outcome]) -> bool:
        try:
            outcome = call.result()
        except EndsRun as fault:
            context.stop_submitting(fault)  # other submissions could not be recorded, or not be paid for
            if isinstance(fault.outcome, Outcome):
                result.outcomes.append(fault.outcome)
            elif isinstance(fault, Cancelled):
                result.outcomes.append(_put_off(context, item, fault))
            if isinstance(fault, AccountFault):
                result.refused = result.refused or str(fault)
            elif not isinstance(fault, Cancelled):
                result.ended = result.ended or str(fault)
            return False
        result.outcomes.append(outcome)
        written = context.records.take(outcome.job_id)
        if written is not None and outcome.kind in ("open", "later"):
            result.still_open.append(written)
        if outcome.kind == "failed":
            log.error("%s failed: %s", outcome.name, outcome.message)
        elif outcome.kind == "aside":
            log.error("%s is set aside: %s", outcome.name, outcome.message)
        elif outcome.kind == "later":
            log.warning("%s is left for later: %s", outcome.name, outcome.message)
        return goes_on(outcome) and not context.clock.ended

    _several(context, items, act, take, step)
    result.without_jobs = context.async_refused()
    return result


def _put_off(context: RunContext, item: object, fault: Exception) -> Outcome:
    """The outcome of an item whose step raised."""
    identity, name = str(item), f"job {item}"
    if isinstance(item, Document):
        identity, name = context.job_id(item), item.uri
    elif isinstance(item, Held):
        identity, name = item.job.id, item.job.document.uri
    return Outcome(
        "aside" if isinstance(fault, Fault) and not isinstance(fault, TransientFault | Cancelled) else "later",
        identity,
        name,
        message=str(fault),
    )


def _note_aside(context: RunContext, outcome: Outcome) -> None:
    """Write a note to the ledger, for `status`."""
    settings, options = context.settings, context.options
    note = AsideNote(
        document=outcome.name,
        reason=outcome.message,
        noted_at=context.clock.now(),
        source=settings.source,
        model=options.model,
        answer_schema=options.answer_schema,
        flow_run=context.flow_run,
    )
    try:
        AsideNotes(context.objects, context.destination).write(outcome.job_id, note)
    except EndsRun:
        raise
    except Fault as fault:  # it is in the report, and in the log
        log.warning("the note that %s is set aside could not be written: %s", outcome.name, fault)


def _several(
    context: RunContext,
    items: Sequence[Item],
    step: Callable[[RunContext, Item], Value],
    take: Callable[[Item, "Future[Value]"], bool],
    stage: object,
) -> None:
    """Run a step for several items at a time, in threads.

    Args:
        context: the run's context.
        items: the items.
        step: the step.
        take: called with each finished call; returns whether another item is started.
        stage: the stage, for which the process limits the number of items in progress over all its task runs.

    Raises:
        Exception: the first exception raised by `take`, after the calls in progress have ended and been taken.
    """
    waiting = iter(items)
    under_way: dict[Future[Value], Item] = {}
    going_on, raised = True, None
    places = context.places(stage)

    def act(item: Item) -> Value:
        with places:  # task runs of a stage overlap, so that none waits for the last item of the previous one
            return step(context, item)

    chunk = copy_context()
    chunk.run(_in_chunk.set, len(items) > 1)
    with context.at_work(), ThreadPoolExecutor(min(len(items), context.options.workers)) as pool:
        while True:
            if going_on:
                for item in islice(waiting, context.options.workers - len(under_way)):
                    under_way[pool.submit(chunk.copy().run, act, item)] = item
            if not under_way:
                break
            for call in wait(under_way, return_when=FIRST_COMPLETED).done:
                try:
                    going_on = take(under_way.pop(call), call) and going_on
                except Exception as error:  # noqa: BLE001  # raised again below
                    going_on, raised = False, raised or error
    if raised is not None:
        raise raised


def _state(result: StepResult, label: str) -> Any:
    """Return the state for the UI: red for failures, and a descriptive name for anything unusual."""
    if result.refused:
        return Failed(message=printable(f"the account was rejected: {result.refused}"), data=result)
    failed = [outcome for outcome in result.outcomes if outcome.kind == "failed"]
    if failed:
        message = failed[0].message if len(failed) == 1 else f"{len(failed)} of {label} failed: {failed[0].message}, …"
        return Failed(message=printable(message), data=result)
    aside = [outcome.message for outcome in result.outcomes if outcome.set_aside]
    if aside:
        message = aside[0] if len(aside) == 1 else f"{len(aside)} of {label} were set aside: {aside[0]}, …"
        return Completed(name="Set aside", message=printable(message), data=result)
    kinds = {outcome.kind for outcome in result.outcomes}
    if kinds == {"skipped"}:
        return Completed(name="Skipped", message="another worker has it, or it is finished", data=result)
    if kinds == {"later"}:
        return Completed(name="Later", message=printable(result.outcomes[0].message), data=result)
    return result
