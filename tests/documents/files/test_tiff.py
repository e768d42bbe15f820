"""TIFFs that Pillow does not decode, or counts wrongly, are counted by their structure and divided without a loss."""

import random
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from tasks.documents.files.formats import TIFF
from tasks.documents.files.inspect import Inspected, InspectionLimits, inspect_document
from tasks.documents.files.split import divide
from tasks.documents.files.tiff import write_frames
from tasks.faults import DocumentFault
from tasks.job.record import PageRange
from tests.documents.files.tiff_files import (
    LONG,
    SHORT,
    Frame,
    Writer,
    bilevel,
    described,
    directories,
    noise,
    pixels,
    read_tags,
    stripped,
    tags_of,
    with_entry,
)

LIMITS = InspectionLimits(200_000_000, 150)
PRIVATE = 65000  # a tag that no reader knows; its two values do not fit into the directory
STRIP_LENGTHS, STRIP_PLACES = 279, 273
CMYK, FLOAT, UNSIGNED = 5, 3, 1


def inspected(content: bytes, folder: Path) -> Inspected:
    (folder / "document").write_bytes(content)
    return inspect_document(folder / "document", "a.tif", LIMITS)


def part_of(content: bytes, first: int, last: int, folder: Path) -> Path:
    (folder / "document").write_bytes(content)
    write_frames(folder / "document", first, last, folder / "part")
    return folder / "part"


def raw(bits: Sequence[int], photometric: int = 2, kind: int = UNSIGNED, extra: int | None = None) -> Frame:
    """A frame of any depth, of noise."""
    width, height = 20, 10
    tags = tags_of((width, height), bits, 1, photometric, t278=height) | {339: (SHORT, [kind] * len(bits))}
    if extra is not None:
        tags[338] = (SHORT, [extra])
    return Frame(tags, [random.Random(sum(bits)).randbytes(-(-width * sum(bits) // 8) * height)])


@pytest.mark.parametrize(
    ("frame", "depth"),
    [
        (raw([32, 32, 32], kind=FLOAT), "3 samples of 32 bits, floating point"),
        (raw([16, 16, 16], kind=FLOAT), "3 samples of 16 bits, floating point"),
        (raw([10, 10, 10]), "3 samples of 10 bits"),
        (raw([12], 1), "one sample of 12 bits"),
        (raw([14, 14, 14]), "3 samples of 14 bits"),
        (raw([8, 8, 8, 8, 8], CMYK, extra=1), "5 samples of 8 bits, CMYK"),
        (raw([4, 4, 8]), "3 samples of 4/8 bits"),
    ],
)
@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True), (">", True)])
def test_any_depth_is_counted_sent_and_divided(tmp_path: Path, frame: Frame, depth: str, order: str, big: bool) -> None:
    content = Writer(order, big).write([frame] * 3)
    note = f"few programs can read its pixel format ({depth}); it is sent unchanged"
    found = inspected(content, tmp_path)
    assert found == Inspected(TIFF, 3, 3, note)
    assert divide(tmp_path / "document", found, [PageRange(first=1, last=3)], 9, 10**6, tmp_path)[0].file == (
        tmp_path / "document"
    )
    whole = described(tmp_path / "document")
    assert described(part_of(content, 2, 3, tmp_path)) == whole[1:]


@pytest.mark.parametrize(
    "frame", [raw([8, 8, 8]), raw([16], 1), raw([32], 1, kind=FLOAT), raw([8, 8, 8, 8], CMYK), bilevel(1)]
)
def test_what_most_programs_read_needs_no_note(tmp_path: Path, frame: Frame) -> None:
    assert inspected(Writer("<", False).write([frame]), tmp_path) == Inspected(TIFF, 1, 1)


def with_a_private_tag(number: int) -> Frame:
    frame = stripped(number, 40)
    return Frame(frame.tags | {PRIVATE: (LONG, [300, 1])}, frame.blocks)


@pytest.mark.parametrize("place", [0, 10**9, 2**32 - 1])
@pytest.mark.parametrize("damaged", [0, 1, 2])
def test_a_tag_that_points_nowhere_costs_no_frame(tmp_path: Path, place: int, damaged: int) -> None:
    sound = Writer("<", False).write([with_a_private_tag(number) for number in range(3)])
    content = with_entry(sound, directories(sound)[damaged], PRIVATE, struct.pack("<HHLL", PRIVATE, 5, 1, place))
    assert inspected(content, tmp_path).pages == 3
    for first, last in ((1, 3), (damaged + 1, damaged + 1)):
        part = part_of(content, first, last, tmp_path)
        assert [frame[2] for frame in pixels(part)] == [noise(number).tobytes() for number in range(first - 1, last)]


@pytest.mark.parametrize("rows", [40, 7])
@pytest.mark.parametrize("change", ["half", "nothing", "too much", "none"])
def test_wrong_lengths_of_strips_cost_no_pixel(tmp_path: Path, rows: int, change: str) -> None:
    sound = Writer("<", False).write([stripped(number, rows) for number in range(3)])
    place = directories(sound)[1]
    tags = strip_lengths(sound, place)
    if change == "none":  # a tag of another meaning in its place
        content = with_entry(sound, place, STRIP_LENGTHS, struct.pack("<HHLL", 281, SHORT, 1, 255))
    else:
        lengths = [{"half": length // 2, "nothing": 0, "too much": 10**8}[change] for length in tags]
        entry = struct.pack("<HHLL", STRIP_LENGTHS, LONG, len(lengths), len(sound))
        if len(lengths) == 1:
            entry = struct.pack("<HHLL", STRIP_LENGTHS, LONG, 1, lengths[0])
        content = with_entry(sound, place, STRIP_LENGTHS, entry) + struct.pack(f"<{len(lengths)}L", *lengths)
    assert inspected(content, tmp_path).pages == 3
    part = part_of(content, 2, 2, tmp_path)
    assert [frame[2] for frame in pixels(part)] == [noise(1).tobytes()]
    if change in ("half", "nothing"):
        assert part.stat().st_size < len(sound)


def strip_lengths(content: bytes, place: int) -> Sequence[int]:
    return read_tags(content, place)[0][STRIP_LENGTHS]


def test_lengths_that_nobody_gives_reach_to_the_next_strip(tmp_path: Path) -> None:
    frame = bilevel(1)
    sound = Writer("<", False).write([frame, bilevel(2)])
    content = with_entry(sound, directories(sound)[0], STRIP_LENGTHS, struct.pack("<HHLL", STRIP_LENGTHS, LONG, 1, 0))
    part = part_of(content, 1, 1, tmp_path)
    expected = noise(1, (200, 100)).convert("1", dither=Image.Dither.NONE)
    assert [frame[2] for frame in pixels(part)] == [expected.tobytes()]


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_chain_that_leads_out_of_the_file_is_broken(tmp_path: Path, cut: int) -> None:
    content = Writer("<", False).write([stripped(number, 40) for number in range(3)])
    with pytest.raises(DocumentFault, match=r"the TIFF is broken \(.*\): repair or replace it"):
        inspected(content[: directories(content)[2] - cut + 40], tmp_path)


@pytest.mark.parametrize(("tag", "words"), [(256, "page 2 has no size"), (STRIP_PLACES, "page 2 has no picture")])
def test_a_frame_without_what_makes_it_one_is_broken(tmp_path: Path, tag: int, words: str) -> None:
    sound = Writer("<", False).write([stripped(number, 40) for number in range(3)])
    content = with_entry(sound, directories(sound)[1], tag, struct.pack("<HHLL", 281, SHORT, 1, 255))
    with pytest.raises(DocumentFault, match=words):
        inspected(content, tmp_path)
