"""Listing a bucket, a thousand objects a call: one call after the other, or long listings in stretches side by side.

A store answers one listing with some ten calls a second, whatever is asked for. Stretches of the keys can be asked for
at the same time. They are divided at keys that need not exist, so a division that is wrong costs time only.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from tasks.faults import Passes
from tasks.store.object_store import Entry
from tasks.store.s3_errors import not_of_s3

Page = Mapping[str, Any]
Ask = Callable[..., Page]
"""Makes one call, with parameters of ListObjectsV2 beside the bucket and the prefix; raises this project's faults."""

AT_ONCE = 8
_ALONE = 4  # calls, after which a listing counts as long


@dataclass
class Stretch:
    """The keys after one key and up to another, as far as they have been listed.

    Attributes:
        ask: makes one call.
        attempt: what is tried, in words.
        after: the key before the first.
        until: the last key that belongs to the stretch; None where it has no end.
        in_order: whether the keys so far were in their order, which every store but S3's directory buckets keeps.
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
        """The next objects, a thousand at most.

        Raises:
            Passes: the listing broke off, contradicts itself, or is part of a division although its keys are in no
                order: what it did not name would go unseen.
        """
        start = {"StartAfter": self.after} if self.after else {}
        answer = self.ask(ContinuationToken=self._token) if self._token else self.ask(**start)
        contents = answer.get("Contents", [])
        entries = [Entry(each["Key"], each["ETag"].strip('"'), each["Size"], each["LastModified"]) for each in contents]
        if "IsTruncated" not in answer:
            raise not_of_s3(self.attempt)
        self.over = not answer["IsTruncated"]
        if self.until is not None and entries and entries[-1].key > self.until:
            self.over, until = True, self.until
            entries = [entry for entry in entries if entry.key <= until]
        if not self.over:
            self._go_on(answer.get("NextContinuationToken", ""))
        self._note_order(entries)
        return entries

    def _note_order(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.in_order = self.in_order and entry.key > self._last
            self._last = entry.key
        if not self.in_order and (self.after or self.until is not None):
            raise Passes(
                f"could not {self.attempt} to its end: the store lists keys in their order at first, and "
                f"{self._last!r} out of it. That is a fault of the store, or of what stands between"
            )

    def _go_on(self, token: str) -> None:
        if not token or hash(token) in self._tokens:
            raise Passes(
                f"could not {self.attempt} to its end: the store says that there is more, and "
                f"{'goes round in a circle' if token else 'not how to go on'}. That is a fault of the store, or of "
                "what stands between; objects beyond that place are unseen"
            )
        self._tokens.add(hash(token))
        self._token = token


def listed(ask: Ask, attempt: str, divide: Callable[[], Sequence[str]] | None = None) -> Iterator[Entry]:
    """The objects of a listing, as lazily as they are taken.

    Args:
        ask: makes one call.
        attempt: what is tried, in words.
        divide: gives keys at which the listing is divided if it is long, in their order. The stretches take turns, a
            page each: always in the same order, but not in that of the keys.

    Raises:
        Passes: the listing broke off, or contradicts itself.
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
    """As many of the keys as are wanted, spread over them evenly."""
    if len(keys) <= most:
        return list(keys)
    return [keys[(place + 1) * len(keys) // (most + 1)] for place in range(most)]


def _side_by_side(stretches: Sequence[Stretch]) -> Iterator[Entry]:
    """The objects of stretches, a page of each in turn; the next page of each is asked for meanwhile."""
    with ThreadPoolExecutor(len(stretches), thread_name_prefix="list") as pool:

        def asked(stretch: Stretch) -> Future[Sequence[Entry]]:
            return pool.submit(copy_context().run, stretch.page)

        turns = deque((stretch, asked(stretch)) for stretch in stretches)
        try:
            while turns:
                stretch, page = turns.popleft()
                entries = page.result()
                if not stretch.over:
                    turns.append((stretch, asked(stretch)))
                yield from entries
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
