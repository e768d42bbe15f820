"""What the API answers about a request. Unknown fields and words are tolerated; what is relied on is checked."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tasks.faults import Passes
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
    """An id as text: some servers count their requests."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _count(value: Any) -> Any:
    """A number that nothing depends on: nonsense is as good as none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31 else None


def _time(value: Any) -> datetime | None:
    """A moment that nothing depends on: nonsense is as good as none."""
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
    """Up to ten pages of a request. Pages count from 1 over what was sent, both ends included."""

    status: Annotated[str, BeforeValidator(_text)] = ""
    start_page: Annotated[int, BeforeValidator(_number)] = 0  # 0 until the API says; only then can it be completed
    end_page: Annotated[int, BeforeValidator(_number)] = 0
    download_url: Annotated[str, BeforeValidator(_text)] = Field("", repr=False)  # a credential: never logged
    failure_message: Annotated[str, BeforeValidator(_words)] = ""

    @property
    def completed(self) -> bool:
        """Whether its pages can be downloaded."""
        return self.status == "completed" and bool(self.download_url) and 1 <= self.start_page <= self.end_page

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be expected of it; one that is completed may still lack its URL."""
        waits_for_url = 1 <= self.start_page <= self.end_page and not self.download_url
        return self.status == "failed" or (self.status == "completed" and not waits_for_url)


class RequestStatus(_Answer):
    """How a request stands."""

    id: Annotated[str, BeforeValidator(_text), BeforeValidator(_identifier)] = ""
    status: Annotated[str, BeforeValidator(_text)] = ""
    total_pages: int | None = None
    completed_pages: Annotated[int | None, BeforeValidator(_count)] = None  # for the progress only
    failure_message: Annotated[str, BeforeValidator(_words)] = ""
    requested_at: Annotated[datetime | None, BeforeValidator(_time)] = None
    completed_at: Annotated[datetime | None, BeforeValidator(_time)] = None
    batches: Annotated[tuple[Batch, ...], Field(max_length=_MOST_BATCHES), BeforeValidator(_list)] = ()

    @property
    def finished(self) -> bool:
        """Whether the API has ended with it, well or badly; an unknown word counts as still running."""
        return self.status in ("completed", "failed")

    @property
    def settled(self) -> bool:
        """Whether nothing more is to be expected: a request may be called completed while a batch is retried."""
        if self.status == "failed":
            return True
        ranges = {(batch.start_page, batch.end_page) for batch in self.batches if batch.completed}
        return all(batch.ended or (batch.start_page, batch.end_page) in ranges for batch in self.batches)

    def is_about(self, request_id: str) -> bool:
        """Whether this is the answer for that request, as far as it says: an answer may lack its id."""
        return not self.id or self.id.casefold() == request_id.casefold()


class Submitted(_Answer):
    """The receipt of an asynchronous submission."""

    request_id: Annotated[str, Field(min_length=1, max_length=_LONGEST_ID), BeforeValidator(_identifier)]


def parse_status(body: bytes) -> RequestStatus:
    """Read a status answer.

    Raises:
        Passes: it cannot be understood; asking again costs nothing.
    """
    try:
        return RequestStatus.model_validate_json(body)
    except ValidationError as error:
        problem = _first(error.errors())
        # Of another kind of answer altogether (a sign-in page, an error), its own words say more.
        received = f"; received: {message_of(body)}" if problem.startswith("body") else ""
        raise Passes(f"the API's status answer cannot be understood ({problem}{received})") from error


def other_than_a_result(head: bytes, *, whole: bool) -> str | None:
    """What came instead of a recognised document with status 200, in its own words; None where it may be a result.

    Whether a result is complete is told when it is read. This tells apart what is of another kind: a sign-in page,
    an error in JSON, nothing at all.

    Args:
        head: the beginning of the answer's body.
        whole: whether that is all of it.
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
