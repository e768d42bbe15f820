"""Parts of an object: exactly the bytes that were asked for, of exactly the version that was listed."""

import pytest

from tasks.faults import DocumentChanged
from tasks.store.objects import Objects
from tasks.store.ranged import RangedFile, opened

BODY = bytes(range(256)) * 20_000


def test_a_part_is_of_the_version_that_was_listed(objects: Objects, bucket: str) -> None:
    objects.put(bucket, "large.bin", BODY, {}, "application/octet-stream")
    (entry,) = objects.list(bucket, "large.bin")

    def read(start: int, length: int) -> bytes:
        return objects.read_part(bucket, entry.key, entry.etag, start, length)

    content = opened(RangedFile(read, entry.size))
    assert content.read(10) == BODY[:10]
    content.seek(-1000, 2)
    assert content.read() == BODY[-1000:]
    content.seek(1_000_000)
    assert content.read(100_000) == BODY[1_000_000:1_100_000], "over the edges of blocks"

    objects.put(bucket, "large.bin", BODY[1:], {}, "application/octet-stream")
    with pytest.raises(DocumentChanged, match="changed or vanished"):
        read(0, 10)
