"""A worker that is stopped at a call to S3, as if it were killed, and the passes that take up what it left."""

import time
from typing import Any

from tasks.context import RunContext
from tasks.job.record import Document
from tasks.steps.collect import collect_job
from tasks.steps.poll import OpenJobs, poll_job
from tasks.steps.submit import submit_document
from tasks.store.objects import Objects
from tasks.upstage.limits import Limits
from tests.steps.conftest import World
from tests.waiting import PATIENCE

AT_ONCE: dict[str, Any] = {"mode": "sync", "limits": Limits(sync_pages=10)}


class Killed(BaseException):
    """Stands for SIGKILL within the test's process: whatever a handler still tries at the store raises it again."""


class Doomed:
    """A worker that is killed at its n-th call to S3, before the call is made or after it has its answer."""

    def __init__(self, world: World, url: str, number: int, moment: str, **options: Any) -> None:
        self.calls = 0
        self._number = number
        client = world.client(url)
        client.meta.events.register("before-send.s3" if moment == "before" else "after-call.s3", self._count)
        self.context = world.context(objects=Objects(client), **options)

    def _count(self, **_: Any) -> None:
        self.calls += 1
        # Dead for good: what runs in `except` and `finally` on the way out must not reach the store either.
        if self.calls >= self._number:
            raise Killed


def passes(world: World, context: RunContext, document: Document) -> None:
    """What the scheduled flows do, until nothing is open: submit, survey, poll, collect."""
    deadline, jobs = time.monotonic() + PATIENCE, OpenJobs(context)
    submit_document(context, document)
    while True:
        assert time.monotonic() < deadline, world.open(document)
        world.clock.advance(context.options.lease_seconds + 1)
        survey = jobs.survey()
        for identity in survey.ready + [job_id for job_id in survey.due if poll_job(context, job_id)]:
            collect_job(context, identity)
        if not list(context.ledger.entries("open")):
            return
        time.sleep(0.005)  # the stand-in works in real time
