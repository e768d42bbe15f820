"""The upload of one request, and its file name."""

from dataclasses import dataclass
from pathlib import Path, PurePath

_LONGEST_NAME = 900  # bytes; jobs with longer names were seen to hang at the API


@dataclass(frozen=True)
class Upload:
    """The upload of one request.

    Attributes:
        file: the document, or a part of it.
        name: the file name sent to the API; its extension must match the content.
        media_type: the content's MIME type.
        model: the model's name or alias.
        pages: its number of pages, or an estimate: for the rate limit.
        schema: the requested answer schema; None for the API's default.
    """

    file: Path
    name: str
    media_type: str
    model: str
    pages: int
    schema: str | None = None


def fitting(name: str) -> str:
    """Shorten a file name for the API. The extension is kept, because it has to match the content."""
    ending = PurePath(name).suffix
    stem = name.removesuffix(ending).encode()[: _LONGEST_NAME - len(ending.encode())]
    return stem.decode("utf-8", "ignore") + ending
