"""How the time from claim to published result divides into waiting in our queue, time at the API, and collecting."""

from datetime import datetime

from tasks.job.record import Durations, Job

_DIGITS = 3


def durations(job: Job, collecting_since: datetime, finished_at: datetime) -> Durations:
    """Divide the time from the claim to the result.

    Time at the API runs from a submission until the API's own `completed_at`, however late it was polled; overlapping
    requests count once. The rest, except collecting, is waiting, including the time of requests that were given up.

    Args:
        job: the job with all its requests.
        collecting_since: when the collect step that published it began.
        finished_at: when the result was published.

    Returns:
        The durations, in seconds.
    """
    collecting = _seconds(collecting_since, finished_at)
    spans = sorted(
        (request.submitted_at, min(request.completed_at, collecting_since))
        for request in job.requests
        if request.completed_at is not None
    )
    if job.requests and not spans:
        return Durations(waiting=None, at_api=None, collecting=collecting)
    at_api, until = 0.0, job.claimed_at
    for begin, end in spans:
        at_api += _seconds(max(begin, until), end)
        until = max(until, end)
    total = _seconds(job.claimed_at, finished_at)
    at_api = round(min(at_api, max(0.0, total - collecting)), _DIGITS)
    return Durations(
        waiting=round(max(0.0, total - collecting - at_api), _DIGITS), at_api=at_api, collecting=collecting
    )


def _seconds(begin: datetime, end: datetime) -> float:
    return round(max(0.0, (end - begin).total_seconds()), _DIGITS)
