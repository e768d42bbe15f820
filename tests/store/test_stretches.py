"""Long listings in stretches side by side: every object once, whatever the division; answers read as botocore does."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

import botocore.session
import pytest
from botocore.parsers import create_parser

from tasks.faults import TransientFault
from tasks.store.list_answers import ListParser, list_page
from tasks.store.stretches import Page, evenly, listed

MOMENT = datetime(2026, 3, 1, tzinfo=UTC)


class Store:
    """A store with these keys, of which a call lists ten; notes the calls."""

    def __init__(self, keys: Sequence[str], most: int = 10) -> None:
        self.keys, self.most = sorted(keys), most
        self.calls: list[str] = []
        self._lock = threading.Lock()

    def ask(self, *, StartAfter: str = "", ContinuationToken: str = "") -> Page:  # noqa: N803  # as botocore names them
        after = ContinuationToken or StartAfter
        with self._lock:
            self.calls.append(after)
        rest = [key for key in self.keys if key > after]
        page = [{"Key": key, "ETag": '"e"', "Size": 1, "LastModified": MOMENT} for key in rest[: self.most]]
        more = len(rest) > self.most
        return {"Contents": page, "IsTruncated": more} | ({"NextContinuationToken": page[-1]["Key"]} if more else {})

    def listed(self, *bounds: str) -> list[str]:
        return [entry.key for entry in listed(self.ask, "list", lambda: bounds)]


KEYS = [f"{number:03x}" for number in range(300)]


@pytest.mark.parametrize(
    "bounds", [[], ["1"], ["08", "1", "11"], [f"{number:02x}" for number in range(19)], ["030", "031", "08f"], ["zzz"]]
)
def test_every_object_is_listed_once_whatever_the_division(bounds: list[str]) -> None:
    assert sorted(Store(KEYS).listed(*bounds)) == KEYS


def test_the_order_is_the_same_each_time() -> None:
    assert Store(KEYS).listed("08", "1", "11") == Store(KEYS).listed("08", "1", "11")


def test_a_short_listing_is_not_divided_and_stays_in_order() -> None:
    store = Store(KEYS[:40])

    def divide() -> Sequence[str]:
        raise AssertionError("four calls are no long listing")

    assert [entry.key for entry in listed(store.ask, "list", divide)] == KEYS[:40]
    assert len(store.calls) == 4


def test_a_division_costs_a_call_more_for_each_stretch_at_most() -> None:
    store = Store(KEYS)
    store.listed("08", "0c", "1")
    assert len(store.calls) <= 30 + 3


def test_no_more_is_listed_than_is_taken() -> None:
    store = Store(KEYS)
    assert next(listed(store.ask, "list", lambda: ["1"])).key == "000"
    assert len(store.calls) == 1


def test_a_stretch_that_goes_round_in_a_circle_is_found_out() -> None:
    store = Store(KEYS)

    def ask(*, StartAfter: str = "", ContinuationToken: str = "") -> Page:  # noqa: N803  # as botocore names them
        if StartAfter == "1" or ContinuationToken == "same":
            return {**store.ask(StartAfter="1"), "NextContinuationToken": "same"}
        return store.ask(StartAfter=StartAfter, ContinuationToken=ContinuationToken)

    with pytest.raises(TransientFault, match="repeats a continuation token"):
        list(listed(ask, "list", lambda: ["1"]))


def test_a_store_that_lists_in_no_order_is_not_divided() -> None:
    keys = KEYS[::-1]

    def ask(*, StartAfter: str = "", ContinuationToken: str = "") -> Page:  # noqa: N803  # as botocore names them
        assert not StartAfter
        start = int(ContinuationToken or 0)
        page = [{"Key": key, "ETag": '"e"', "Size": 1, "LastModified": MOMENT} for key in keys[start : start + 10]]
        return {"Contents": page, "IsTruncated": start + 10 < len(keys), "NextContinuationToken": str(start + 10)}

    assert [entry.key for entry in listed(ask, "list", lambda: ["08", "1"])] == keys


def test_a_stretch_whose_keys_are_in_no_order_is_found_out() -> None:
    store = Store(KEYS)

    def ask(*, StartAfter: str = "", ContinuationToken: str = "") -> Page:  # noqa: N803  # as botocore names them
        page = store.ask(StartAfter=StartAfter, ContinuationToken=ContinuationToken)
        return {**page, "Contents": page["Contents"][::-1]} if StartAfter or ContinuationToken > "1" else page

    with pytest.raises(TransientFault, match="out of order"):
        list(listed(ask, "list", lambda: ["08", "1"]))


def test_bounds_are_spread_evenly() -> None:
    assert evenly(KEYS[:3], 7) == KEYS[:3]
    assert evenly(KEYS[:160], 7) == [KEYS[number] for number in range(20, 160, 20)]


ANSWER = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name><Prefix>a%20b/</Prefix>
<KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys><Delimiter>/</Delimiter><EncodingType>url</EncodingType>
<IsTruncated>true</IsTruncated><NextContinuationToken>t&amp;1</NextContinuationToken>
<Contents><Key>a%20b/%C3%BC.pdf</Key><LastModified>2026-03-01T10:11:12.345Z</LastModified>
<ETag>&quot;abc&quot;</ETag><Size>12</Size><StorageClass>STANDARD</StorageClass></Contents>
<CommonPrefixes><Prefix>a%20b/c/</Prefix></CommonPrefixes></ListBucketResult>"""
READ = ("Contents", "CommonPrefixes", "IsTruncated", "NextContinuationToken", "EncodingType", "Prefix", "Delimiter")


@pytest.mark.parametrize(
    "body",
    [
        ANSWER,
        ANSWER.replace(' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"', ""),
        "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
        ANSWER.replace("<Size>12</Size>", ""),
        ANSWER.replace("2026-03-01T10:11:12.345Z", "Sun, 01 Mar 2026 10:11:12 GMT"),
        ANSWER.replace("<IsTruncated>true</IsTruncated>", ""),
    ],
)
def test_an_answer_is_read_as_botocore_reads_it(body: str) -> None:
    shape = botocore.session.get_session().get_service_model("s3").operation_model("ListObjectsV2").output_shape
    answer = {"status_code": 200, "headers": {"x-amz-request-id": "r"}, "body": body.encode()}
    assert shape is not None
    own = create_parser("rest-xml")
    expected, parsed = own.parse(answer, shape), ListParser(own).parse(answer, shape)
    assert parsed["ResponseMetadata"] == expected["ResponseMetadata"]
    for name in READ:
        if name == "Contents":  # nothing else of these is read
            kept = ("Key", "ETag", "Size", "LastModified")
            expected[name] = [{k: v for k, v in each.items() if k in kept} for each in expected.get(name, [])]
            parsed[name] = [{k: v for k, v in each.items() if k in kept} for each in parsed.get(name, [])]
        assert parsed.get(name) == expected.get(name), name


def test_what_is_no_listing_is_left_to_botocore() -> None:
    assert list_page(b"<Error><Code>SlowDown</Code></Error>") is None
    assert list_page(b"<html") is None
    assert list_page(ANSWER.replace(">true<", ">perhaps<").encode()) is None
