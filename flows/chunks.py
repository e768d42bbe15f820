"""How documents are shared out over task runs.

One document a task run for the first several hundred, then chunks of a hundredth of what has been: Prefect's
server records about 28 task runs a second and drops what comes faster. A million documents at once make little more
than a thousand chunks; a chunk ends with the pass it belongs to, so small passes make more of them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

_ONE_BY_ONE = 500
_SHORTEST_CHUNK = 50

Item = TypeVar("Item")


@dataclass
class Seen:
    """How many items a stage has had so far in its flow run."""

    items: int = 0


def chunks(items: Iterable[Item], seen: Seen) -> Iterator[list[Item]]:
    """Group items into what one task run works on.

    Args:
        items: taken lazily.
        seen: the count of the stage; goes on over several calls.
    """
    chunk: list[Item] = []
    for item in items:
        chunk.append(item)
        if len(chunk) >= (1 if seen.items < _ONE_BY_ONE else max(_SHORTEST_CHUNK, seen.items // 100)):
            seen.items += len(chunk)
            yield chunk
            chunk = []
    if chunk:
        seen.items += len(chunk)
        yield chunk
