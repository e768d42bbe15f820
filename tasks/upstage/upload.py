"""What is sent in one request, and the file name it is announced by."""

from dataclasses import dataclass
from pathlib import Path, PurePath

_LONGEST_NAME = 900  # bytes; the API was seen to leave jobs with longer names hanging


@dataclass(frozen=True)
class Upload:
    """What is sent in one request.

    Attributes:
        file: the document, or a part of it.
        name: the file name to tell the API; its extension must match the content.
        media_type: the content's MIME type.
        model: the model's name or alias.
        pages: how many pages it has, or is reckoned to have: for the rate limit.
        schema: the answer schema to ask for; None for the API's own.
    """

    file: Path
    name: str
    media_type: str
    model: str
    pages: int
    schema: str | None = None


def fitting(name: str) -> str:
    """A file name that is short enough for the API, with its extension, which has to match the content."""
    ending = PurePath(name).suffix
    stem = name.removesuffix(ending).encode()[: _LONGEST_NAME - len(ending.encode())]
    return stem.decode("utf-8", "ignore") + ending
