"""The Prefect side of the steps: tasks with names, retries and states a person can read. No logic of its own.

A step's task takes one document, or a chunk of them where there are more than Prefect's server should record
one by one. Faults of the moment are the API client's to retry; Prefect retries a task that died.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging.handlers import APILogHandler
from prefect.states import Completed, Failed

from tasks.collect import collect_job
from tasks.credentials import access
from tasks.faults import AccountFault, CredentialsRefused, Fault, MomentFault
from tasks.models import Document
from tasks.options import RunSettings
from tasks.outcomes import Outcome
from tasks.poll import poll_job
from tasks.session import Session, open_session
from tasks.submit import submit_document

log = logging.getLogger(__name__)


@dataclass
class StepResult:
    """The outcomes of one task run.

    `refused` says why the account was, if it was; `without_jobs` why it takes none, if it takes none.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    refused: str | None = None
    without_jobs: str | None = None


def _died(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether a failed task run is worth running again: not when it says itself what is wrong."""
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
        cache_policy=NO_CACHE,  # the ledger knows what is done; Prefect's results would be a second truth
        persist_result=False,
    )


def attach_logs() -> None:
    """Let the steps' ordinary logging appear in the run's log in the UI."""
    for name in ("tasks", "flows"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        if not any(isinstance(handler, APILogHandler) for handler in logger.handlers):
            logger.addHandler(APILogHandler())


def _session(settings: RunSettings, flow_run: str | None) -> Session:
    attach_logs()  # the process may be one of a cluster, which has none yet
    session = open_session(settings, flow_run, access)
    _ = session.client  # without a key, nothing is claimed first
    return session


@_step("submit", "submit {label}")
def submit_step(settings: RunSettings, flow_run: str | None, documents: Sequence[Document], label: str) -> Any:
    """Submit documents, several at a time."""
    session = _session(settings, flow_run)
    return _all(session, documents, submit_document, label)


@_step("collect", "collect {label}")
def collect_step(settings: RunSettings, flow_run: str | None, job_ids: Sequence[str], label: str) -> Any:
    """Collect finished jobs, several at a time."""
    session = _session(settings, flow_run)
    return _all(session, job_ids, collect_job, label)


@_step("poll", "poll {label}")
def poll_step(settings: RunSettings, flow_run: str | None, job_ids: Sequence[str], label: str) -> Any:
    """Ask for many jobs; gives the ids of those that can be collected, and why the account was refused if it was."""
    session = _session(settings, flow_run)
    ready: list[str] = []
    refused: str | None = None
    with ThreadPoolExecutor(session.options.workers) as pool:
        calls = [(each, pool.submit(copy_context().run, poll_job, session, each)) for each in job_ids]
        for each, call in calls:
            try:
                if call.result():
                    ready.append(each)
            except AccountFault as fault:
                refused = str(fault)
                pool.shutdown(wait=False, cancel_futures=True)
                break
            except CredentialsRefused:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            except Fault as fault:
                log.warning("job %s: %s; asked again later", each, fault)
    log.info("%d of %s can be collected", len(ready), label)
    return ready, refused


def _all(session: Session, items: Sequence[Any], work: Callable[[Session, Any], Outcome], label: str) -> Any:
    """Work on the items, several at a time, and stop early when the account is refused or the budget is used up."""
    result = StepResult()
    locked_out: CredentialsRefused | None = None
    stop = threading.Event()

    def one(item: Any) -> Outcome | None:
        if stop.is_set():
            return None
        try:
            outcome = work(session, item)
        except AccountFault:
            stop.set()
            raise
        except CredentialsRefused as refused:
            stop.set()
            session.client.stop_submitting(refused)  # what others are about to send could not be recorded
            raise
        except Fault as fault:  # one document's trouble must not lose the counts of the others
            name = item.uri if isinstance(item, Document) else f"job {item}"
            identity = session.job_id(item) if isinstance(item, Document) else item
            return Outcome("later", identity, name, message=str(fault), set_aside=not isinstance(fault, MomentFault))
        if work is submit_document and (outcome.budget_used_up or session.client.stopped):
            stop.set()
        return outcome

    with ThreadPoolExecutor(min(len(items), session.options.workers)) as pool:
        for call in [pool.submit(copy_context().run, one, item) for item in items]:
            try:
                outcome = call.result()
            except AccountFault as fault:
                result.refused = str(fault)
                continue
            except CredentialsRefused as fault:
                locked_out = locked_out or fault
                continue
            if outcome is None:
                continue
            result.outcomes.append(outcome)
            if outcome.kind == "failed":
                log.error("%s failed: %s", outcome.name, outcome.message)
            elif outcome.kind == "later":
                log.warning("%s is left for later: %s", outcome.name, outcome.message)
    if locked_out is not None:  # ends the run; what the others came to is in the ledger
        raise locked_out
    result.without_jobs = session.async_refused()
    if result.refused:
        return Failed(message=f"the account was refused: {result.refused}", data=result)
    return _state(result, label)


def _state(result: StepResult, label: str) -> Any:
    """The state to show in the UI: red for a document that failed, and a name that tells where it isn't plain."""
    failed = [outcome for outcome in result.outcomes if outcome.kind == "failed"]
    if failed:
        message = failed[0].message if len(failed) == 1 else f"{len(failed)} of {label} failed: {failed[0].message}, …"
        return Failed(message=message, data=result)
    kinds = {outcome.kind for outcome in result.outcomes}
    if kinds == {"skipped"}:
        return Completed(name="Skipped", message="another worker has it, or it is finished", data=result)
    if kinds == {"later"}:
        return Completed(name="Later", message=result.outcomes[0].message, data=result)
    return result
