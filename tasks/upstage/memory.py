"""What one process remembers of the API's answers, for as long as its run lasts."""

import threading
from collections import OrderedDict

from tasks.clock import Clock
from tasks.faults import AnswerLost, NotUnderstood
from tasks.upstage.answers import RequestStatus

_ANSWERS_KEPT = 512
_ANSWER_SECONDS = 600  # download URLs live 15 minutes; a third of that is left for the download
_LOST_IN_A_ROW = 6
_REQUESTS_KNOWN = 100_000


class RecentAnswers:
    """Status answers of the last poll, so that collecting does not ask the same again.

    They hold download URLs, which are credentials: in memory only, and for less than they live.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answers: OrderedDict[str, tuple[float, RequestStatus]] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, request_id: str, answer: RequestStatus) -> None:
        """Keep the answer of a finished request."""
        with self._lock:
            self._answers[request_id] = (self._clock.monotonic(), answer)
            while len(self._answers) > _ANSWERS_KEPT:
                self._answers.popitem(last=False)

    def take(self, request_id: str) -> RequestStatus | None:
        """Take the answer out, when it is fresh enough to be used."""
        with self._lock:
            kept = self._answers.pop(request_id, None)
        if kept is None or self._clock.monotonic() - kept[0] > _ANSWER_SECONDS:
            return None
        return kept[1]


class AnswersLost:
    """The brake on lost answers: after several in a row, whatever the documents, something is wrong beyond them all."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._lock = threading.Lock()

    def understood(self) -> None:
        """The API answered a submission."""
        with self._lock:
            self._in_a_row = 0

    def lost(self, lost: AnswerLost) -> None:
        """The answer to a submission was lost, or is none of the API's.

        Raises:
            NotUnderstood: so were those before it.
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
    """Which job each request belongs to, as far as this process has seen: the API's ids should be unique."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def claim(self, request_id: str, job_id: str) -> bool:
        """Note that a request is a job's. Returns False when it is another's."""
        with self._lock:
            owner = self._jobs.setdefault(request_id, job_id)
            while len(self._jobs) > _REQUESTS_KNOWN:
                self._jobs.popitem(last=False)
            return owner == job_id
