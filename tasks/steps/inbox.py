"""The messages of a queue in which S3 announces new documents: received, and deleted once they are settled.

A message is settled when each document that it announces has a job, is gone, or is not selected, or when it announces
none. All others stay: they are delivered again after the queue's visibility timeout, even if this process is killed.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

from tasks.context import RunContext
from tasks.faults import Fault, ObjectRefused
from tasks.job.outcome import Outcome
from tasks.job.record import Document
from tasks.steps.discover import Found, discover, is_in_source
from tasks.store.ledger import State
from tasks.store.notifications import NotANotification, announced_documents
from tasks.store.queue import AT_ONCE, Message, Queue
from tasks.tally import KnownJobs

log = logging.getLogger(__name__)

_ASK_ALL_SECONDS = 1  # the shortest wait with which SQS queries all of its servers

Address = tuple[str, str]


@dataclass
class Batch:
    """A batch of messages, and the state of the documents that they announce.

    Attributes:
        announced: the messages that were understood, each with its documents in the source.
        again: whether this run has received all of these messages, and those left alone, before.
        complete: whether every document was looked up.
    """

    announced: list[tuple[Message, tuple[Address, ...]]] = field(default_factory=list)
    again: bool = True
    complete: bool = False
    _found: dict[Address, Found] = field(default_factory=dict)
    _outcomes: dict[str, Outcome] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)

    @property
    def documents(self) -> list[Address]:
        """The announced documents, as bucket and key, each once."""
        return list(dict.fromkeys(address for _, addresses in self.announced for address in addresses))

    def add(self, discovered: Found) -> None:
        """Add a document that exists and is selected."""
        self._found[discovered.document.bucket, discovered.document.key] = discovered

    def refuse(self, key: str, fault: ObjectRefused) -> None:
        """Add a document that may not be read: its message stays in the queue, without affecting the others."""
        log.warning("%s; its message is left in the queue", fault)
        self._refused.add(key)

    def record_outcome(self, outcome: Outcome) -> None:
        """Add the outcome of a submitted document."""
        self._outcomes[outcome.name] = outcome

    def settled(self, address: Address, context: RunContext) -> bool:
        """Whether a document is settled: it has a job, is gone, or is not selected."""
        discovered = self._found.get(address)
        if discovered is None:
            return self.complete and address[1] not in self._refused
        if discovered.state in ("done", "failed"):
            return True
        if discovered.state == "open":
            return _is_owned(context, discovered.job_id)
        outcome = self._outcomes.get(discovered.document.uri)
        if outcome is None or outcome.kind in ("later", "aside"):
            return False
        return outcome.kind != "skipped" or _is_owned(context, outcome.job_id)


class Inbox:
    """Receives messages from a queue, and deletes those that are settled.

    Args:
        context: the run's context.
        queue: the queue.
    """

    def __init__(self, context: RunContext, queue: Queue) -> None:
        self._context = context
        self._queue = queue
        # Messages that were left. Each is logged once, and if only these arrive, the queue has nothing new.
        self._met: set[str] = set()
        self.settled = 0

    @property
    def left(self) -> int:
        """The number of messages left so far: they are delivered again."""
        return len(self._met)

    def take(self, most: int, seconds: float) -> Batch | None:
        """Receive up to `most` messages, and wait `seconds` for the first. Returns None if there are none."""
        messages = self._queue.receive(most, max(seconds, _ASK_ALL_SECONDS))
        received = list(messages)
        while received and len(messages) < most:
            received = self._queue.receive(min(AT_ONCE, most - len(messages)), 0)
            messages += received
        if not messages:
            return None
        batch = Batch()
        for message in messages:
            seen_before = message.id in self._met
            batch.again = batch.again and seen_before
            addresses = self._read(message, quiet=seen_before)
            if addresses is None:
                self._met.add(message.id)
            else:
                batch.announced.append((message, addresses))
        return batch

    def _read(self, message: Message, *, quiet: bool) -> tuple[Address, ...] | None:
        """Return the documents that a message announces; None if it has to be left alone."""
        level = logging.DEBUG if quiet else logging.WARNING
        try:
            addresses = announced_documents(message.body)
        except NotANotification as why:
            log.log(
                level,
                "message %s is left in the queue, %s. Delete it there, and let only S3 send to this queue",
                message.id, why,
            )  # fmt: skip
            return None
        source = self._context.source
        for bucket, key in addresses:
            if bucket != source.bucket or not is_in_source(self._context, key):
                log.log(
                    level,
                    "message %s is left in the queue: it announces %s in bucket %s, outside of %s. Each place needs a "
                    "queue of its own; correct the notification's prefix, or this queue's URL",
                    message.id, ascii(key), ascii(bucket), source,
                )  # fmt: skip
                return None
        return addresses

    def new_documents(self, batch: Batch, known: KnownJobs) -> Iterator[Document]:
        """Yield the selected documents of a batch that have no job yet, and count all."""
        for discovered in discover(self._context, known, named=batch.documents, refused=batch.refuse):
            known.count(discovered.job_id, discovered.state)
            batch.add(discovered)
            if discovered.state is None:
                yield discovered.document
        batch.complete = True

    def settle(self, batch: Batch) -> None:
        """Delete the settled messages of a batch."""
        settled = []
        for message, addresses in batch.announced:
            if all(batch.settled(address, self._context) for address in addresses):
                settled.append(message)
            else:
                self._met.add(message.id)
        not_deleted = self._queue.delete(settled)
        if not_deleted:
            log.warning(
                "%d messages could not be deleted; they will arrive again and be recognised as processed", not_deleted
            )
        self._met.difference_update(message.id for message in settled)
        self.settled += len(settled) - not_deleted


def _is_owned(context: RunContext, job_id: str) -> bool:
    """Whether an open job is permanent: another worker's claim may still be released if nothing was sent."""
    try:
        held = context.ledger.read(job_id)
        if held is not None:
            return not (held.job.untouched and context.held_by_another(held.job))
        closed: tuple[State, ...] = ("done", "failed")
        return any(context.ledger.entry(state, job_id) is not None for state in closed)
    except Fault as fault:
        log.warning("%s; its message is left in the queue", fault)
        return False
