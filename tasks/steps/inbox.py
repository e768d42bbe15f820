"""The messages of a queue in which S3 tells of new documents: taken, and deleted once nothing is left to do for them.

A message is deleted when each document it tells of has a job, is gone, or is not meant; or when it tells of none.
All others stay: after the queue's visibility timeout they come again, also when this process is killed.
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
from tasks.store.notifications import NotUnderstood, documents_told
from tasks.store.queue import AT_ONCE, Message, Queue
from tasks.tally import KnownJobs

log = logging.getLogger(__name__)

_ASK_ALL_SECONDS = 1  # the shortest wait with which SQS asks all of its machines

Address = tuple[str, str]


@dataclass
class Batch:
    """Some messages, and what is found out about the documents they tell of.

    Attributes:
        told: the messages that are understood, each with its documents in the source.
        again: whether all of these messages, and those left alone, were here before in this run.
        complete: whether every document was looked at.
    """

    told: list[tuple[Message, tuple[Address, ...]]] = field(default_factory=list)
    again: bool = True
    complete: bool = False
    _found: dict[Address, Found] = field(default_factory=dict)
    _outcomes: dict[str, Outcome] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)

    @property
    def documents(self) -> list[Address]:
        """The documents the messages tell of, as bucket and key, each once."""
        return list(dict.fromkeys(address for _, addresses in self.told for address in addresses))

    def add(self, found: Found) -> None:
        """Note that a document is there and meant."""
        self._found[found.document.bucket, found.document.key] = found

    def refuse(self, key: str, fault: ObjectRefused) -> None:
        """Note that a document may not be looked at: it stays with the queue, and does not keep the others."""
        log.warning("%s; its message is left in the queue", fault)
        self._refused.add(key)

    def heed(self, outcome: Outcome) -> None:
        """Note what became of a document that was submitted."""
        self._outcomes[outcome.name] = outcome

    def settled(self, address: Address, context: RunContext) -> bool:
        """Whether nothing is left to do for a document: it has a job, is gone, or is not meant."""
        found = self._found.get(address)
        if found is None:
            return self.complete and address[1] not in self._refused
        if found.state in ("done", "failed"):
            return True
        if found.state == "open":
            return _is_owned(context, found.job_id)
        outcome = self._outcomes.get(found.document.uri)
        if outcome is None or outcome.kind in ("later", "aside"):
            return False
        return outcome.kind != "skipped" or _is_owned(context, outcome.job_id)


class Inbox:
    """Takes messages out of a queue, and deletes those that are settled.

    Args:
        context: the tools.
        queue: where the messages come from.
    """

    def __init__(self, context: RunContext, queue: Queue) -> None:
        self._context = context
        self._queue = queue
        self._met: set[str] = set()  # messages that were left: told once, and a sign that a queue holds nothing new
        self.settled = 0

    @property
    def left(self) -> int:
        """How many messages were left so far: they come again."""
        return len(self._met)

    def take(self, most: int, seconds: float) -> Batch | None:
        """Take up to so many messages; waits so long for the first. None when there are none."""
        messages = self._queue.receive(most, max(seconds, _ASK_ALL_SECONDS))
        received = list(messages)
        while received and len(messages) < most:
            received = self._queue.receive(min(AT_ONCE, most - len(messages)), 0)
            messages += received
        if not messages:
            return None
        batch = Batch()
        for message in messages:
            known = message.id in self._met
            batch.again = batch.again and known
            addresses = self._read(message, quiet=known)
            if addresses is None:
                self._met.add(message.id)
            else:
                batch.told.append((message, addresses))
        return batch

    def _read(self, message: Message, *, quiet: bool) -> tuple[Address, ...] | None:
        """The documents a message tells of; None when it has to be left alone."""
        level = logging.DEBUG if quiet else logging.WARNING
        try:
            addresses = documents_told(message.body)
        except NotUnderstood as why:
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
                    "message %s is left in the queue: it tells of %s in bucket %s, outside of %s. Each place needs a "
                    "queue of its own; correct the notification's prefix, or this queue's URL",
                    message.id, ascii(key), ascii(bucket), source,
                )  # fmt: skip
                return None
        return addresses

    def new_documents(self, batch: Batch, known: KnownJobs) -> Iterator[Document]:
        """The documents of a batch that are meant and have no job yet; all are counted."""
        for found in discover(self._context, known, named=batch.documents, refused=batch.refuse):
            known.count(found.job_id, found.state)
            batch.add(found)
            if found.state is None:
                yield found.document
        batch.complete = True

    def settle(self, batch: Batch) -> None:
        """Delete the messages of a batch that nothing is left to do for."""
        settled = []
        for message, addresses in batch.told:
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
    """Whether an open job stays one: a claim of another worker that has sent nothing may still be given back."""
    try:
        held = context.ledger.read(job_id)
        if held is not None:
            return not (held.job.untouched and context.held_by_another(held.job))
        closed: tuple[State, ...] = ("done", "failed")
        return any(context.ledger.entry(state, job_id) is not None for state in closed)
    except Fault as fault:
        log.warning("%s; its message is left in the queue", fault)
        return False
