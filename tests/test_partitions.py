"""Which partition a document is in."""

from datetime import UTC, datetime

import pytest

from tasks.options import Options, RunSettings
from tasks.partitions import is_scheme, partition_of
from tasks.selection import Selection

WRITTEN = datetime(2024, 7, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("by", "key", "partition"),
    [
        ("month", "2021/03/a.pdf", "2021-03"),
        ("month", "2021-03-a.pdf", "2021-03"),
        ("month", "invoices/20210315_7.pdf", "2021-03"),
        ("month", "2021.12.pdf", "2021-12"),
        ("month", "north/202103/a.pdf", "2021-03"),
        ("month", "2021/13/a.pdf", "other"),
        ("month", "scan-120210315.pdf", "other"),
        ("month", "scan-20210399.pdf", "other"),
        ("month", "letters/a.pdf", "other"),
        ("year", "2021/13/a.pdf", "2021"),
        ("year", "20210315.pdf", "2021"),
        ("year", "scan-00020213.pdf", "other"),
        ("modified", "2021/03/a.pdf", "2024-07"),
        ("prefix:1", "north/2021/a.pdf", "north"),
        ("prefix:2", "north/2021/a.pdf", "north/2021"),
        ("prefix:9", "north/2021/a.pdf", "north/2021"),
        ("prefix:1", "a.pdf", "other"),
    ],
)
def test_a_partition_is_told_by_the_key_or_by_when_it_was_written(by: str, key: str, partition: str) -> None:
    assert partition_of(by, key, WRITTEN) == partition


def test_schemes() -> None:
    assert all(map(is_scheme, ("month", "year", "modified", "prefix:1", "prefix:12")))
    assert not any(map(is_scheme, ("week", "prefix", "prefix:0", "prefix:x", "")))
    with pytest.raises(ValueError, match="year, month, modified or prefix:N"):
        Selection(by="week")


def test_a_selection_takes_the_partitions_it_names() -> None:
    selection = Selection(partition=("2021-03",))
    assert selection.takes("2021/03/a.pdf", 1, WRITTEN)
    assert not selection.takes("2021/04/a.pdf", 1, WRITTEN)
    assert selection.of_all_partitions().takes("2021/04/a.pdf", 1, WRITTEN)
    assert RunSettings(destination="s3://b/out", options=Options(), selection=selection).backfill is None
