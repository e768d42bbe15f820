"""Models of the API's answers. Unknown fields and values are tolerated; fields the program relies on are checked."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tasks.faults import TransientFault
from tasks.upstage.errors import clean_words, message_of


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)  # inputs hold URLs


_MOST_BATCHES = 10_000  # a request of 1,000 pages has 100
_LONGEST_ID = 2000
_RESULT_MEMBERS = frozenset(("pages", "images", "responses", "fullTextAnnotation", "textAnnotations"))


def _text(value: Any) -> Any:
    return "" if value is None else value


def _words(value: Any) -> Any:
    return clean_words(value) if isinstance(value, str) else _text(value)


def _identifier(value: Any) -> Any:
    """Return an id as text: some servers number their requests."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _count(value: Any) -> Any:
    """Return a number for display only; anything implausible becomes None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31 else None


def _time(value: Any) -> datetime | None:
    """Return a time for display only; anything implausible becomes None."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)
    except ValueError:
        return None


def _number(value: Any) -> Any:
    return 0 if value is None else value


def _list(value: Any) -> Any:
    return () if value is None else value


class Batch(_Answer):
    """Up to ten pages of a request. Pages are numbered from 1 within the uploaded file; both ends are included."""

    status: Annotated[str, BeforeValidator(_text)] = ""
    start_page: Annotated[int, BeforeValidator(_number)] = 0  # 0 until the API reports it; not completed before then
    end_page: Annotated[int, BeforeValidator(_number)] = 0
    download_url: Annotated[str, BeforeValidator(_text)] = Field("", repr=False)  # a credential: never logged
    failure_message: Annotated[str, BeforeValidator(_words)] = ""

    @property
    def completed(self) -> bool:
        """Whether its pages can be downloaded."""
        return self.status == "completed" and bool(self.download_url) and 1 <= self.start_page <= self.end_page

    @property
    def ended(self) -> bool:
        """Whether the batch is final. A completed batch may still lack its URL, and then it is not."""
        waits_for_url = 1 <= self.start_page <= self.end_page and not self.download_url
        return self.status == "failed" or (self.status == "completed" and not waits_for_url)


class RequestStatus(_Answer):
    """The status of a request."""

    id: Annotated[str, BeforeValidator(_text), BeforeValidator(_identifier)] = ""
    status: Annotated[str, BeforeValidator(_text)] = ""
    total_pages: int | None = None
    completed_pages: Annotated[int | None, BeforeValidator(_count)] = None  # for progress only
    failure_message: Annotated[str, BeforeValidator(_words)] = ""
    requested_at: Annotated[datetime | None, BeforeValidator(_time)] = None
    completed_at: Annotated[datetime | None, BeforeValidator(_time)] = None
    batches: Annotated[tuple[Batch, ...], Field(max_length=_MOST_BATCHES), BeforeValidator(_list)] = ()

    @property
    def finished(self) -> bool:
        """Whether the API is done with the request, successfully or not; an unknown status counts as running."""
        return self.status in ("completed", "failed")

    @property
    def settled(self) -> bool:
        """Whether every batch is final: the API may report a request as completed while it retries a batch."""
        if self.status == "failed":
            return True
        ranges = {(batch.start_page, batch.end_page) for batch in self.batches if batch.completed}
        return all(batch.ended or (batch.start_page, batch.end_page) in ranges for batch in self.batches)

    def is_about(self, request_id: str) -> bool:
        """Whether this answer is for the given request. An answer without an id is accepted."""
        return not self.id or self.id.casefold() == request_id.casefold()


class Submitted(_Answer):
    """The receipt of an asynchronous submission."""

    request_id: Annotated[str, Field(min_length=1, max_length=_LONGEST_ID), BeforeValidator(_identifier)]


def parse_status(body: bytes) -> RequestStatus:
    """Parse a status answer.

    Raises:
        TransientFault: it cannot be parsed; another request for the status costs nothing.
    """
    try:
        return RequestStatus.model_validate_json(body)
    except ValidationError as error:
        problem = _first(error.errors())
        # A body of another kind (a sign-in page, an error) is more informative than the validation error.
        received = f"; received: {message_of(body)}" if problem.startswith("body") else ""
        raise TransientFault(f"the API's status answer cannot be understood ({problem}{received})") from error


def other_than_a_result(head: bytes, *, whole: bool) -> str | None:
    """Describe a 200 answer that is not an OCR result: a sign-in page, an error in JSON, an empty body.

    Whether a result is complete is checked later, when it is read.

    Args:
        head: the beginning of the answer's body.
        whole: whether `head` is the entire body.

    Returns:
        The answer's own words; None if it may be a result.
    """
    if not head.lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n").startswith(b"{"):  # in whatever encoding JSON may have
        return message_of(head) or "an empty body"
    if not whole:
        return None
    try:
        answer = json.loads(head)
    except (ValueError, RecursionError):
        return message_of(head)
    return None if _RESULT_MEMBERS.intersection(answer) else message_of(head)


def _first(errors: Iterable[Any]) -> str:
    error = next(iter(errors))
    return f"{'.'.join(map(str, error['loc'])) or 'body'}: {error['msg']}"
