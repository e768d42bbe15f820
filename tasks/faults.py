"""The hierarchy of faults. A fault's base class determines what happens next.

    Fault
    ├── EndsRun                     the run stops at once; `exit_status` is the command's exit status
    │   ├── SetupFault              2    address, bucket, permission, option, disk
    │   │   └── CredentialsRefused  2    S3 rejects the credentials: nothing more can be written
    │   ├── AccountFault            3    the API rejects the account: key, credit
    │   │   ├── NotOffered          3    the account lacks this model or endpoint; another may work
    │   │   └── NotUnderstood       3    repeated answers are missing or do not come from the API
    │   └── Cancelled               130  the run is shutting down: nothing more is sent
    ├── EndsDocument                this document ends here; the others continue
    │   ├── DocumentFault           given up: `failed`, with a code and a reason
    │   ├── ObjectRefused           the store will not release the object: set aside until an operator acts
    │   └── DocumentChanged         the listed version is gone: the next listing picks up the current one
    ├── TransientFault              429, 503, a dropped connection: retry later
    │   └── NotSending              its backfill is paused or cancelled: it waits until the backfill is resumed
    ├── Gone                        the target of a call does not exist (any more); the caller has another way
    │   ├── UrlExpired              request the status again: every answer contains fresh URLs
    │   └── RequestUnknown          the API does not know the request: lost if that persists
    ├── AnswerLost                  fully sent, but no answer: counted, charged, retried within bounds
    │   └── TimedOut                a synchronous request took too long
    ├── CeilingReached              of pages or money: the document waits, and sending stops
    │   └── CountsAwaited           only because of documents of unknown page count, until the API has counted them
    ├── Superseded                  another worker wrote the record and owns the job now
    └── RecordUnreadable            a record in an unknown format: left alone

Every message is written for the operator of the run: what happened, to which document, and what to do next.
"""

from enum import IntEnum, StrEnum


class ExitStatus(IntEnum):
    """Exit statuses of the command."""

    DONE = 0
    SOME_FAILED = 1
    SETUP = 2
    ACCOUNT_REFUSED = 3
    CEILING_REACHED = 4
    INTERRUPTED = 130


class FailureCode(StrEnum):
    """Why a document failed. `docs/errors.md` describes each code."""

    BROKEN = "broken"
    CHANGED = "changed"
    DYNAMIC_FORM = "dynamic-form"
    EMPTY = "empty"
    ENCRYPTED = "encrypted"
    KEY_RESERVED = "key-reserved"
    KEY_TOO_LONG = "key-too-long"
    MISSING_PAGES = "missing-pages"
    MODEL_REFUSED = "model-refused"
    NO_PAGES = "no-pages"
    NO_RESULT = "no-result"
    PORTFOLIO = "portfolio"
    REFUSED_ADDRESS = "refused-address"
    REFUSED_BY_API = "refused-by-api"
    RESTRICTED = "restricted"
    RESULT_TAKEN = "result-taken"
    TOO_LARGE = "too-large"
    TOO_MANY_PAGES = "too-many-pages"
    TOO_MANY_PIXELS = "too-many-pixels"
    UNMERGEABLE = "unmergeable"
    UNSUPPORTED_FORMAT = "unsupported-format"
    WRONG_ANSWER = "wrong-answer"


class Fault(Exception):
    """Base class of everything that steps and flows raise deliberately."""

    not_sent: bool = False
    """Whether it prevented a document from being sent, so that nothing can have been billed."""


class EndsRun(Fault):
    """The run stops at once, whatever else is in progress."""

    exit_status: ExitStatus = ExitStatus.SETUP
    outcome: object | None = None
    """The outcome of the document that raised it, so that what was already sent for it is counted."""


class SetupFault(EndsRun):
    """The set-up is wrong: an address, a bucket, a permission, an option, or a full disk."""


class CredentialsRefused(SetupFault):
    """S3 rejects the credentials: they expired or were revoked.

    Unlike a missing permission, this does not concern one object: every later call would be rejected as well.
    """


class AccountFault(EndsRun):
    """The API rejects the account (key, credit). No document is at fault, and none is marked as failed."""

    exit_status = ExitStatus.ACCOUNT_REFUSED


class NotOffered(AccountFault):
    """The account lacks this model or endpoint. Another model or endpoint may work."""


class NotUnderstood(AccountFault):
    """Several answers in a row were lost or did not come from the API: sending more would only cost more."""


class Cancelled(EndsRun):
    """The run is shutting down: nothing more is sent."""

    exit_status = ExitStatus.INTERRUPTED


class EndsDocument(Fault):
    """This document ends here; the others continue."""


class DocumentFault(EndsDocument):
    """One document cannot be processed. It ends as `failed` with this reason.

    Args:
        code: the kind of fault, for grouping and selecting.
        reason: what is wrong with the document and how to fix it.
        retry_helps: whether retrying the unchanged document can succeed.
    """

    def __init__(self, code: FailureCode, reason: str, *, retry_helps: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.retry_helps = retry_helps


class ObjectRefused(EndsDocument):
    """The store will not release this object: a missing permission, an encryption key, or an archive.

    The document is set aside: retrying within this run does not help, and it is not marked as failed.
    """


class DocumentChanged(EndsDocument):
    """The document changed or vanished since it was listed. The next listing picks up its current version."""


class TransientFault(Fault):
    """A fault that may pass by itself (429, 503, a dropped connection). Retrying later can help.

    Args:
        message: what happened.
        retry_after: how many seconds the other side asked us to wait; None if it did not.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotSending(TransientFault):
    """The document's backfill is paused or cancelled, so nothing is sent for it."""


class Gone(Fault):
    """The target of a call does not exist (any more). Repeating the call is useless; the caller has another way."""


class UrlExpired(Gone):
    """A download URL was rejected (403, 404, 410). The next status answer contains a fresh one."""


class RequestUnknown(Gone):
    """The API does not know the request (404). Right after a submission, this can be transient."""


class AnswerLost(Fault):
    """A document was fully sent, but no usable answer arrived: it may have been accepted and billed."""


class TimedOut(AnswerLost):
    """A synchronous request took too long."""


class Superseded(Fault):
    """Another worker has written the record since it was read, and owns the job now."""


class RecordUnreadable(Fault):
    """A record in an unknown format, or a damaged one. It is left as it is rather than guessed at."""


class CeilingReached(Fault):
    """A ceiling on pages or money leaves no room for a document: it is left for later, and sending stops.

    Args:
        message: what exceeds which ceiling.
        meter: the name of the ceiling's meter.
    """

    def __init__(self, message: str, meter: str) -> None:
        super().__init__(message)
        self.meter = meter


class CountsAwaited(CeilingReached):
    """A ceiling has room for a document, unless documents of unknown page count that are under way turn out long.

    It may be sent once the API has counted them.
    """
