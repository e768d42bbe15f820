"""What the API answers about a request. Unknown fields and words are tolerated; what is relied on is checked."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tasks.faults import MomentFault
from tasks.upstage.words import clean_words


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)  # inputs hold URLs


_MOST_BATCHES = 10_000  # a request of 1,000 pages has 100
_LONGEST_ID = 2000


def _text(value: Any) -> Any:
    return "" if value is None else value


def _words(value: Any) -> Any:
    return clean_words(value) if isinstance(value, str) else _text(value)


def _count(value: Any) -> Any:
    """A number that nothing depends on: nonsense is as good as none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31 else None


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

    status: Annotated[str, BeforeValidator(_text)] = ""
    total_pages: int | None = None
    completed_pages: Annotated[int | None, BeforeValidator(_count)] = None  # for the progress only
    failure_message: Annotated[str, BeforeValidator(_words)] = ""
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


class Submitted(_Answer):
    """The receipt of an asynchronous submission."""

    request_id: Annotated[str, Field(min_length=1, max_length=_LONGEST_ID)]


def parse_status(body: bytes) -> RequestStatus:
    """Read a status answer.

    Raises:
        MomentFault: it cannot be understood; asking again costs nothing.
    """
    try:
        return RequestStatus.model_validate_json(body)
    except ValidationError as error:
        raise MomentFault(f"the API's status answer cannot be understood ({_first(error.errors())})") from error


def _first(errors: Iterable[Any]) -> str:
    error = next(iter(errors))
    return f"{'.'.join(map(str, error['loc'])) or 'body'}: {error['msg']}"
