"""A process's memory of the API's answers, for the duration of a run."""

import threading
from collections import OrderedDict

from tasks.clock import Clock
from tasks.faults import AnswerLost, NotUnderstood
from tasks.upstage.answers import RequestStatus

_ANSWERS_KEPT = 512
_ANSWER_SECONDS = 600  # download URLs are valid for 15 minutes; a third of that is left for the download
_LOST_IN_A_ROW = 6
_REQUESTS_KNOWN = 20_000  # a third of a kilobyte each; the ledger knows all of them


class RecentAnswers:
    """Status answers of the last poll, so that the collect step need not request them again.

    They contain download URLs, which are credentials: they are kept in memory only, for less than their validity.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answers: OrderedDict[str, tuple[float, RequestStatus]] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, request_id: str, answer: RequestStatus) -> None:
        """Keep the status answer of a finished request."""
        with self._lock:
            self._answers[request_id] = (self._clock.monotonic(), answer)
            while len(self._answers) > _ANSWERS_KEPT:
                self._answers.popitem(last=False)

    def take(self, request_id: str) -> RequestStatus | None:
        """Remove and return the answer; None if it is missing or too old."""
        with self._lock:
            kept = self._answers.pop(request_id, None)
        if kept is None or self._clock.monotonic() - kept[0] > _ANSWER_SECONDS:
            return None
        return kept[1]


class AnswersLost:
    """Stops the run after several consecutive lost answers: the documents are not the cause."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._lock = threading.Lock()

    def understood(self) -> None:
        """Note that the API answered a submission."""
        with self._lock:
            self._in_a_row = 0

    def lost(self, lost: AnswerLost) -> None:
        """Note that the answer to a submission was lost, or did not come from the API.

        Raises:
            NotUnderstood: too many in a row.
        """
        with self._lock:
            self._in_a_row += 1
            count = self._in_a_row
        if count >= _LOST_IN_A_ROW:
            raise NotUnderstood(
                f"the answers to {count} consecutive submissions were lost or not understood; the last: "
                f"{lost}. Each may "
                "be paid for, so nothing more is sent: check UPSTAGE_BASE_URL, proxies and the API's status, then "
                "start again"
            ) from lost


class RequestOwners:
    """The job of each request that this process has seen. Detects a request id that the API gives out twice."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def claim(self, request_id: str, job_id: str) -> bool:
        """Note that a request belongs to a job. Returns False if it belongs to another."""
        with self._lock:
            owner = self._jobs.setdefault(request_id, job_id)
            while len(self._jobs) > _REQUESTS_KNOWN:
                self._jobs.popitem(last=False)
            return owner == job_id
