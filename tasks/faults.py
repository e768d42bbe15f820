"""What can go wrong, as one tree. The branch a fault hangs on says what follows from it.

    Fault
    ├── EndsRun                     the run stops at once; `exit_status` is the command's
    │   ├── SetupFault              2    address, bucket, permission, option, disk
    │   │   └── CredentialsRefused  2    S3 refuses the credentials: nothing can be written any more
    │   ├── AccountFault            3    the OCR account is refused: key, credit
    │   │   ├── NotOffered          3    the account has no such model or endpoint; it may have another
    │   │   └── NotUnderstood       3    answer after answer is not the API's: something else answers
    │   └── Cancelled               130  the run is being ended: nothing more is sent
    ├── EndsDocument                one document ends here; the others go on
    │   ├── DocumentFault           given up: `failed`, with a code and a reason
    │   ├── ObjectRefused           the store does not give the object out: set aside, until somebody helps
    │   └── DocumentChanged         the listed version is gone: the next listing sees what is there now
    ├── Passes                      a fault of the moment: try again, later
    │   └── NotSending              its backfill is paused or cancelled: it waits until somebody resumes it
    ├── Gone                        what a call refers to is not there (any more); its caller knows the way on
    │   ├── UrlExpired              ask for the status again: every answer brings fresh URLs
    │   └── RequestUnknown          the API does not know the request: lost, if that lasts
    ├── AnswerLost                  sent whole, and no answer: counted, charged, repeated within bounds
    │   └── TimedOut                a synchronous request took too long
    ├── CeilingReached              pages or money: the document waits, and sending stops
    ├── Superseded                  another worker wrote the record: the job is theirs
    └── RecordUnreadable            a record of another format: left alone

Every message is a sentence for the person who operates the run: what happened, to which document, what to do next.
"""

from enum import IntEnum, StrEnum


class ExitStatus(IntEnum):
    """What the command's exit status means."""

    DONE = 0
    SOME_FAILED = 1
    SETUP = 2
    ACCOUNT_REFUSED = 3
    CEILING_REACHED = 4
    INTERRUPTED = 130


class FailureCode(StrEnum):
    """Why a document was given up. `docs/errors.md` has a line for each."""

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
    """Base of everything that steps and flows raise on purpose."""

    not_sent: bool = False
    """Whether it kept a document from being sent, so that nothing can be paid for."""


class EndsRun(Fault):
    """The run stops at once, whatever else is under way."""

    exit_status: ExitStatus = ExitStatus.SETUP
    outcome: object | None = None
    """The outcome of the document that met it: what was sent for it before is still counted."""


class SetupFault(EndsRun):
    """The set-up is wrong: address, bucket, permission, option, or a disk without room."""


class CredentialsRefused(SetupFault):
    """S3 refuses the credentials altogether: they expired, or were withdrawn.

    Unlike a missing permission this is not about one object: every later call would be refused as well.
    """


class AccountFault(EndsRun):
    """The OCR account is refused (key, credit). No document is to blame, and none is marked as failed."""

    exit_status = ExitStatus.ACCOUNT_REFUSED


class NotOffered(AccountFault):
    """The account has no such model, or no such endpoint. It may offer the same another way."""


class NotUnderstood(AccountFault):
    """Several answers in a row were lost, or were not the API's own: sending more would only cost more."""


class Cancelled(EndsRun):
    """The run is being ended: nothing more is sent."""

    exit_status = ExitStatus.INTERRUPTED


class EndsDocument(Fault):
    """One document ends here, and the others go on."""


class DocumentFault(EndsDocument):
    """One document cannot be done. It ends `failed` with this reason.

    Args:
        code: the kind of fault, to group and to select by.
        reason: what is wrong with the document, and what to do about it.
        retry_helps: whether putting the same document back, unchanged, has a chance.
    """

    def __init__(self, code: FailureCode, reason: str, *, retry_helps: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.retry_helps = retry_helps


class ObjectRefused(EndsDocument):
    """The store does not give this object out: no permission, an encryption key, an archive.

    The document is set aside: no retry of this run helps, and it is not marked as failed.
    """


class DocumentChanged(EndsDocument):
    """The document changed or vanished since it was listed. The next listing sees it as it is then."""


class Passes(Fault):
    """A fault of the moment (429, 503, a cut connection). Trying again later can help.

    Args:
        message: what happened.
        retry_after: seconds the other side asked us to wait, if it did.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotSending(Passes):
    """Nothing is sent for the document's backfill at present: it is paused or cancelled."""


class Gone(Fault):
    """What a call refers to is not there (any more). The caller knows another way; repeating the call is none."""


class UrlExpired(Gone):
    """A download URL was refused (403, 404, 410): a fresh one comes with the next status answer."""


class RequestUnknown(Gone):
    """The API does not know the request (404). Right after a submission that can pass."""


class AnswerLost(Fault):
    """A document was sent whole, but no usable answer came: it may have been accepted, and billed."""


class TimedOut(AnswerLost):
    """A document was sent to be recognised synchronously, and that took too long."""


class Superseded(Fault):
    """Another worker wrote the record since it was read: the job is theirs to go on with."""


class RecordUnreadable(Fault):
    """A record of another format, or a damaged one. Nobody guesses: it is left as it is."""


class CeilingReached(Fault):
    """A ceiling on pages or money leaves no room for a document: it is left for later, and sending stops."""
