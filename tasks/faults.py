"""What can go wrong, told apart by whose fault it is, since that decides what happens next.

Every message is a sentence for the person who operates the run: what happened, and what to do about it.
"""


class Fault(Exception):
    """Base of everything this project raises on purpose."""


class SetupFault(Fault):
    """The set-up is wrong (address, bucket, permission, option). The run ends with exit status 2."""


class CredentialsRefused(SetupFault):
    """S3 takes the credentials for nothing any more: they ran out, or were withdrawn. The run stops at once.

    Unlike a permission that is missing, this is not of one object: every call to come would be refused.
    """


class AccountFault(Fault):
    """The OCR account is refused (key, credit, model). The run stops at once; no document is to blame."""


class NotOffered(AccountFault):
    """The account has no such model, or no such endpoint, where it was asked for: it may have it elsewhere."""


class MomentFault(Fault):
    """Something passing (429, 5xx, a cut connection, an expired URL). Trying again later can help.

    Args:
        message: what happened.
        retry_after: seconds the other side asked us to wait, when it said so.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AnswerLost(Fault):
    """A document was sent whole, but the answer did not arrive: it may have been accepted, and billed."""


class TimedOut(AnswerLost):
    """A document was sent to be recognised at once, and that took too long."""


class DocumentFault(Fault):
    """One document cannot be done. It ends `failed` with this reason, and the others go on.

    Args:
        code: the kind of fault, in a word or two, to group and to select by.
        reason: what is wrong with the document, and what to do about it.
        retry_helps: whether putting the same document back, unchanged, has a chance.
    """

    def __init__(self, code: str, reason: str, *, retry_helps: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.retry_helps = retry_helps


class DocumentMoved(Fault):
    """The document changed or vanished since it was listed. It is left to the next pass."""
