"""Documents that wait until the API has counted others: a ceiling would be at risk if those were long.

A document of unknown page count may be longer than estimated. While it is under way, a ceiling may have no room for
another document that fits by the estimates. That document is tried again once something was counted: one at first,
then twice as many each time, because each attempt reads the document.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence

from tasks.job.outcome import Outcome
from tasks.job.record import Document

_MOST_AT_ONCE = 64
_TRIES_SECONDS = 30.0  # between attempts without a sign: documents of other runs are counted, too


class AwaitingCounts:
    """The documents and open jobs of one run that wait for the API's counts. For one thread.

    Args:
        job_id: returns the job of a document.
    """

    def __init__(self, job_id: Callable[[Document], str]) -> None:
        self._job_id = job_id
        self._documents: deque[Document] = deque()
        self._jobs: dict[str, int] = {}  # open jobs whose missing pages wait: `_freed` when they were refused
        self._stuck: set[str] = set()  # those that were refused twice, and nothing was counted between
        self._freed = 0  # how often something was counted, or ended
        self._tried = -1  # the same when documents were last tried
        self._tried_at = -_TRIES_SECONDS
        self._alone = False  # whether no job of this run was open at the last attempt
        self._size = 1
        self.refused: Outcome | None = None  # the last one

    def __len__(self) -> int:
        return len(self._documents)

    def note(self, outcome: Outcome, *, sent: bool) -> None:
        """Note the outcome of a step.

        Args:
            outcome: the outcome.
            sent: whether the step submitted a new document.
        """
        if outcome.counts_awaited:
            self.refused = outcome
            if not sent:
                if self._jobs.get(outcome.job_id) == self._freed:
                    self._stuck.add(outcome.job_id)
                self._jobs[outcome.job_id] = self._freed
            return
        self._jobs.pop(outcome.job_id, None)
        self._stuck.discard(outcome.job_id)
        if sent or outcome.counted or outcome.kind == "failed":
            self._freed += 1
            self._stuck.clear()

    def put_back(self, tried: Sequence[Document], outcomes: Iterable[Outcome], queued: Iterable[Document]) -> None:
        """Keep documents for later, in their order.

        Args:
            tried: the documents of a task run of which at least one was refused.
            outcomes: their outcomes; documents without one were not tried.
            queued: documents that wait behind them.
        """
        ended = {outcome.job_id for outcome in outcomes if not outcome.counts_awaited}
        self._documents.extendleft(reversed([each for each in tried if self._job_id(each) not in ended]))
        self._documents.extend(queued)
        self._size = 1

    def take(self, now: float, *, alone: bool) -> list[Document]:
        """Take the documents to try now; none if there was no sign that one may fit.

        Args:
            now: seconds of a monotonic clock.
            alone: whether no job of this run is open, so that only documents of other runs can be counted.
        """
        if not (self._freed > self._tried or now >= self._tried_at + _TRIES_SECONDS or alone > self._alone):
            return []
        self._tried, self._tried_at, self._alone = self._freed, now, alone
        taken = [self._documents.popleft() for _ in range(min(self._size, len(self._documents)))]
        self._size = min(2 * self._size, _MOST_AT_ONCE)
        return taken

    @property
    def hopeless(self) -> bool:
        """Whether documents were refused while no job of this run was open: nothing that it does makes room."""
        return bool(self._documents) and self._alone and self._freed <= self._tried

    def clear(self) -> list[Document]:
        """Forget the documents. Returns them."""
        documents = list(self._documents)
        self._documents.clear()
        return documents

    def all_stuck(self, open_jobs: Collection[str]) -> bool:
        """Whether every open job of this run waits in vain for the API's counts."""
        return bool(open_jobs) and self._stuck.issuperset(open_jobs)
