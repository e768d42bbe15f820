"""Listing of a bucket, a thousand objects per call. Long listings are divided into stretches, listed concurrently.

A store answers about ten consecutive list calls per second, but stretches of the key range can be listed at the same
time. The keys at which the range is divided need not exist, so a poor division costs only time.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from tasks.faults import TransientFault
from tasks.store.object_store import Entry
from tasks.store.s3_errors import not_of_s3

Page = Mapping[str, Any]
Ask = Callable[..., Page]
"""Makes one ListObjectsV2 call with parameters in addition to bucket and prefix; raises this project's faults."""

AT_ONCE = 8
_ALONE = 4  # number of calls after which a listing counts as long


@dataclass
class Stretch:
    """A key range and the progress of its listing.

    Attributes:
        ask: makes one call.
        attempt: a description of the listing, for messages.
        after: the exclusive start of the range; empty for the first key.
        until: the inclusive end of the range; None for the last key.
        in_order: whether the keys so far were sorted, as in every store except S3 directory buckets.
    """

    ask: Ask
    attempt: str
    after: str = ""
    until: str | None = None

    def __post_init__(self) -> None:
        self.over, self.in_order = False, True
        self._last = self.after
        self._token = ""
        self._tokens: set[int] = set()  # their hashes: there may be many, and they are long

    def page(self) -> Sequence[Entry]:
        """List the next objects, at most a thousand.

        Raises:
            TransientFault: the listing broke off, contradicts itself, or is one of several concurrent listings although
                its keys are not in order: documents would be missed.
        """
        start = {"StartAfter": self.after} if self.after else {}
        answer = self.ask(ContinuationToken=self._token) if self._token else self.ask(**start)
        contents = answer.get("Contents", [])
        entries = [Entry(item["Key"], item["ETag"].strip('"'), item["Size"], item["LastModified"]) for item in contents]
        if "IsTruncated" not in answer:
            raise not_of_s3(self.attempt)
        self.over = not answer["IsTruncated"]
        if self.until is not None and entries and entries[-1].key > self.until:
            self.over, until = True, self.until
            entries = [entry for entry in entries if entry.key <= until]
        if not self.over:
            self._continue_at(answer.get("NextContinuationToken", ""))
        self._note_order(entries)
        return entries

    def _note_order(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.in_order = self.in_order and entry.key > self._last
            self._last = entry.key
        if not self.in_order and (self.after or self.until is not None):
            raise TransientFault(
                f"could not {self.attempt} to its end: the store listed keys in order at first, and then "
                f"{self._last!r} out of order. This is a fault of the store, or of a proxy in between"
            )

    def _continue_at(self, token: str) -> None:
        if not token or hash(token) in self._tokens:
            raise TransientFault(
                f"could not {self.attempt} to its end: the store reports that there are more objects, but "
                f"{'repeats a continuation token' if token else 'sends no continuation token'}. This is a fault of "
                "the store, or of a proxy in between; the remaining objects were not seen"
            )
        self._tokens.add(hash(token))
        self._token = token


def listed(ask: Ask, attempt: str, divide: Callable[[], Sequence[str]] | None = None) -> Iterator[Entry]:
    """Yield the objects of a listing lazily.

    Args:
        ask: makes one call.
        attempt: a description of the listing, for messages.
        divide: returns the sorted keys at which a long listing is divided. The stretches take turns, a page each: the
            order is always the same, but it is not key order.

    Raises:
        TransientFault: the listing broke off, or contradicts itself.
    """
    whole, calls, last = Stretch(ask, attempt), 0, ""
    while not whole.over:
        entries = whole.page()
        yield from entries
        calls, last = calls + 1, entries[-1].key if entries else last
        if divide is not None and calls == _ALONE and not whole.over and whole.in_order and last:
            bounds = evenly([key for key in divide() if key > last], AT_ONCE - 1)
            if bounds:
                yield from _side_by_side([
                    Stretch(ask, attempt, after, until)
                    for after, until in zip([last, *bounds], [*bounds, None], strict=True)
                ])  # fmt: skip
                return


def evenly(keys: Sequence[str], most: int) -> list[str]:
    """Select at most `most` of the keys, evenly spaced."""
    if len(keys) <= most:
        return list(keys)
    return [keys[(place + 1) * len(keys) // (most + 1)] for place in range(most)]


def _side_by_side(stretches: Sequence[Stretch]) -> Iterator[Entry]:
    """Yield the objects of several stretches, a page of each in turn; each next page is requested in advance."""
    with ThreadPoolExecutor(len(stretches), thread_name_prefix="list") as pool:

        def next_page(stretch: Stretch) -> Future[Sequence[Entry]]:
            return pool.submit(copy_context().run, stretch.page)

        turns = deque((stretch, next_page(stretch)) for stretch in stretches)
        try:
            while turns:
                stretch, page = turns.popleft()
                entries = page.result()
                if not stretch.over:
                    turns.append((stretch, next_page(stretch)))
                yield from entries
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
