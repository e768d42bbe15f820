"""A fast parser for answers to ListObjectsV2: botocore's takes 0.1 s for a thousand objects on a slow machine.

botocore's parser walks through the operation's entire model for each object, and dateutil guesses each time's format.
This one reads only the elements of a usual answer, and leaves any other answer to botocore.
"""

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from xml.etree import ElementTree

log = logging.getLogger(__name__)

_LIST = "ListObjectsV2Output"
_ROOT = "ListBucketResult"
_TEXTS = {"Name", "Prefix", "Delimiter", "StartAfter", "ContinuationToken", "NextContinuationToken", "EncodingType"}
_OK = 200


def read_lists_fast(client: Any) -> None:  # Any: the endpoint of a client is not part of its type
    """Make an S3 client parse listings with `ListParser`."""
    try:
        endpoint = client._endpoint
        endpoint._response_parser_factory = _Parsers(endpoint._response_parser_factory)
    except AttributeError:  # not the pinned botocore: it parses them itself
        log.warning("this version of botocore cannot use the fast parser: listings take ten times as long")


class _Parsers:
    """Creates parsers, as botocore's own factory does."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def create_parser(self, protocol: str) -> "ListParser":
        return ListParser(self._own.create_parser(protocol))


class ListParser:
    """botocore's parser, except for answers to ListObjectsV2.

    Args:
        own: botocore's parser.
    """

    def __init__(self, own: Any) -> None:
        self._own = own

    def parse(self, answer: Mapping[str, Any], shape: Any) -> Any:
        """Parse an answer as botocore would."""
        if shape is None or shape.name != _LIST or answer["status_code"] != _OK:
            return self._own.parse(answer, shape)
        page = list_page(answer["body"])
        if page is None:
            return self._own.parse(answer, shape)
        return self._own.parse({**answer, "body": f"<{_ROOT}/>".encode()}, shape) | page

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


def list_page(body: bytes) -> dict[str, Any] | None:
    """Parse an answer to ListObjectsV2, with botocore's names; None if the answer is unusual."""
    try:
        root = ElementTree.fromstring(body)
        space = root.tag.removesuffix(_ROOT)
        if root.tag != space + _ROOT:
            return None
        return _page(root, space)
    except (ElementTree.ParseError, ValueError, KeyError, TypeError):
        return None


def _page(root: ElementTree.Element, space: str) -> dict[str, Any]:
    page: dict[str, Any] = {}
    contents: list[dict[str, Any]] = []
    folders: list[dict[str, Any]] = []
    for element in root:
        name = element.tag.removeprefix(space)
        if name == "Contents":
            texts = {part.tag.removeprefix(space): part.text for part in element}
            key, etag = texts["Key"], texts["ETag"]
            if key is None or etag is None:
                raise ValueError
            contents.append(
                {
                    "Key": key,
                    "ETag": etag,
                    "Size": int(texts["Size"] or ""),
                    "LastModified": _time(texts["LastModified"] or ""),
                }
            )
        elif name == "CommonPrefixes":
            folders.append({"Prefix": element.findtext(f"{space}Prefix") or ""})
        elif name == "IsTruncated":
            page[name] = {"true": True, "false": False}[(element.text or "").lower()]
        elif name in _TEXTS:
            page[name] = element.text or ""
    if contents:
        page["Contents"] = contents
    if folders:
        page["CommonPrefixes"] = folders
    return page


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(text)
    return time
