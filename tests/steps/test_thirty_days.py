"""The API keeps results for 30 days: the oldest are collected first, and who looks is warned."""

import pytest

from deployments.local.stack import REGION, S3_ACCESS_KEY, S3_SECRET_KEY
from flows.cli.status import read_status
from tasks.job.record import job_id
from tasks.steps.poll import OpenJobs
from tasks.steps.submit import submit_document
from tests.steps.conftest import World, pdf

DAY = 86_400


def test_the_oldest_jobs_come_first_and_those_about_to_be_forgotten_are_counted(
    world: World, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = world.context()
    documents = [world.put(pdf(1, f"old {number}"), f"in/{number}.pdf") for number in range(4)]
    # The listing goes by the job's name; submitted the other way round, the oldest is its last.
    documents.sort(key=lambda document: job_id(document, "ocr"), reverse=True)
    for document, days in zip(documents, (20, 4, 1, 1), strict=True):
        submit_document(context, document)
        world.clock.advance(days * DAY)
    survey = OpenJobs(context).survey()
    assert [held.job.document for held in survey.due] == documents
    assert survey.expiring == 1

    for name, value in {
        "AWS_ENDPOINT_URL_S3": s3_url,
        "AWS_ACCESS_KEY_ID": S3_ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": S3_SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)
    status = read_status(f"s3://{world.bucket}/out", now=world.clock.now())
    assert (status.open, status.expiring) == (4, 1)
    assert status.oldest[0].document == documents[0].uri
