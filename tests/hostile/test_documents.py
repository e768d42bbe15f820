"""A document that was made to hurt is one document's fault: in bounded time and memory, whatever the format."""

import io
import json
import resource
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.documents.files import inspect as product
from tasks.documents.files.formats import BMP, JPEG, PDF, PNG, TIFF, Format
from tasks.documents.files.inspect import InspectionLimits, inspect_as
from tasks.documents.files.sniff import format_of
from tasks.documents.files.split import extract_pages
from tasks.faults import DocumentFault
from tasks.job.record import PageRange
from tests.hostile import bombs
from tests.sample_documents import encrypted_pdf, jpeg, png, text_pdf, tiff
from tests.waiting import PATIENCE, processor_seconds

PIXELS = 200_000_000
MB = 1 << 20
MOST = 150  # MB of memory over a document, whatever it inflates to
LONGEST = 20.0  # seconds of processor time: a busy machine takes no more of them

# Opens a document in a process of its own, and says what came of it and what it took, its own children included.
_PROBE = """
import json, resource, sys
from pathlib import Path
from tasks.documents.files.formats import PDF
from tasks.documents.files.inspect import InspectionLimits, inspect_document
from tasks.documents.files.split import extract_pages
from tasks.documents.files.sniff import format_of
from tasks.faults import DocumentFault
from tasks.job.record import PageRange
file = Path(sys.argv[1])
peak = lambda who: resource.getrusage(who).ru_maxrss // (1 << 20 if sys.platform == "darwin" else 1 << 10)
before, said = peak(resource.RUSAGE_SELF), []
for act in (
    lambda: inspect_document(file, "x", InspectionLimits(200_000_000, 150)).pages,
    lambda: extract_pages(file, PDF, PageRange(first=1, last=1), Path(sys.argv[2])),
):
    try:
        said.append(act())
    except DocumentFault as fault:
        said.append(f"{fault.code}: {fault}")
parent, child = peak(resource.RUSAGE_SELF) - before, peak(resource.RUSAGE_CHILDREN)
print(json.dumps({"said": said, "parent": parent, "child": child}))
"""


def probed(content: bytes, folder: Path) -> dict[str, Any]:
    """What counting and extracting said, and the memory it took in MB."""
    file = folder / "document"
    file.write_bytes(content)
    ended = subprocess.run(
        [sys.executable, "-c", _PROBE, str(file), str(folder / "part")],
        capture_output=True,
        timeout=PATIENCE,
        cwd=Path(product.__file__).parents[3],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30)),
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode()[-500:]
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


def count_pages(file: Path, form: Format, pixels: int) -> int:
    pages = inspect_as(file, form, InspectionLimits(pixels, 150)).pages
    assert pages is not None
    return pages


def outcome(content: bytes, form: Format, folder: Path, most_pixels: int = PIXELS) -> int | DocumentFault:
    """The pages of a document, each of which can be taken out of it or not; or what is wrong with it."""
    file, started = folder / "document", processor_seconds()
    file.write_bytes(content)
    try:
        pages = count_pages(file, form, most_pixels)
        assert pages > 0
        return pages
    except DocumentFault as fault:
        assert str(folder) not in str(fault)  # noqa: PT017
        assert len(str(fault)) < 400  # noqa: PT017
        return fault
    finally:
        assert processor_seconds() - started < LONGEST


def taken_out(content: bytes, form: Format, folder: Path, last: int = 1) -> DocumentFault | None:
    """What is wrong with taking the first pages out of a document."""
    (folder / "document").write_bytes(content)
    try:
        extract_pages(folder / "document", form, PageRange(first=1, last=last), folder / "part")
    except DocumentFault as fault:
        return fault
    return None


@pytest.mark.parametrize(
    ("make", "counted", "taken"),
    [
        (lambda: bombs.content_bomb(220), 1, None),
        (lambda: bombs.content_bomb(220, b"[/ASCIIHexDecode/FlateDecode]", hexed=True), 1, None),
        (lambda: bombs.content_bomb(400, b"[/FlateDecode/FlateDecode]", times=2), 1, None),
        (lambda: bombs.content_bomb(400, b"[/FlateDecode/FlateDecode/FlateDecode]", times=3), 1, None),
        (lambda: bombs.image_bomb(220), 1, None),
        (lambda: bombs.object_bomb(220), "broken", "broken"),
        (lambda: bombs.table_bomb(220), 1, None),
        (lambda: bombs.text_bomb(220), "broken", "broken"),
    ],
)
def test_what_inflates_to_hundreds_of_megabytes_is_not_inflated(
    tmp_path: Path, make: Callable[[], bytes], counted: object, taken: object
) -> None:
    content = make()
    assert len(content) < 8 * MB
    answer = probed(content, tmp_path)
    findings = [finding.partition(":")[0] if isinstance(finding, str) else finding for finding in answer["said"]]
    assert findings == [counted, taken]
    assert answer["parent"] < MOST
    assert answer["child"] < MOST


def test_what_inflates_without_a_bound_does_so_in_a_process_that_has_one(tmp_path: Path) -> None:
    answer = probed(bombs.lzw_bomb(120), tmp_path)
    assert answer["said"][0] == 1
    assert (answer["said"][1] or "broken").startswith("broken")  # what runs out of memory is left as it is, or refused
    assert answer["parent"] < MOST
    assert answer["child"] < 1200


def test_the_part_of_a_document_with_a_bomb_still_holds_the_page(tmp_path: Path) -> None:
    assert taken_out(bombs.content_bomb(220), PDF, tmp_path) is None
    assert count_pages(tmp_path / "part", PDF, PIXELS) == 1


@pytest.mark.parametrize("packed", [False, True])
def test_content_beyond_the_bound_that_is_honest_keeps_its_pictures(tmp_path: Path, packed: bool) -> None:
    picture, text = bombs.noise(1, MB), b"% " + b"x" * 70 * MB + b"\n/I Do"
    with pikepdf.new() as pdf:
        page = pdf.add_blank_page()
        images = pikepdf.Dictionary(I=pdf.make_stream(picture), Unused=pdf.make_stream(picture))
        page.Resources = pikepdf.Dictionary(XObject=images)
        page.Contents = pdf.make_stream(text)
        pdf.save(tmp_path / "document", compress_streams=packed)
    extract_pages(tmp_path / "document", PDF, PageRange(first=1, last=1), tmp_path / "part")
    with pikepdf.open(tmp_path / "part") as part:
        assert part.pages[0].Resources.XObject.I.read_bytes() == picture
        raw = part.pages[0].Contents.read_raw_bytes()
    assert raw == text or zlib.decompress(raw) == text


def test_objects_that_hang_together_without_end_do_not_end_the_run(tmp_path: Path) -> None:
    content = bombs.chained(150_000)
    assert outcome(content, PDF, tmp_path) == 1
    fault = taken_out(content, PDF, tmp_path)
    assert fault is not None  # qpdf goes as deep as the list, and its process dies of it
    assert fault.code == "broken"


@pytest.mark.parametrize("count", [0, -1, 10**6, 10**18])
def test_the_pages_claimed_are_not_believed(tmp_path: Path, count: int) -> None:
    assert outcome(bombs.one_page(count=count), PDF, tmp_path) == 1
    assert taken_out(bombs.one_page(count=count), PDF, tmp_path) is None
    assert taken_out(bombs.one_page(count=count), PDF, tmp_path, last=2) is not None


@pytest.mark.parametrize("content", [*bombs.looping_trees(), *bombs.odd_structures()])
def test_what_leads_round_and_round_comes_to_an_end(tmp_path: Path, content: bytes) -> None:
    outcome(content, PDF, tmp_path)
    started = processor_seconds()
    taken_out(content, PDF, tmp_path)
    assert processor_seconds() - started < LONGEST


def test_pdfs_cut_off_anywhere_are_read_or_refused(tmp_path: Path) -> None:
    for whole in (text_pdf(["a", "b", "c"]), bombs.object_bomb(1), encrypted_pdf()):
        # What qpdf refuses, pdfium is asked in a process of its own: few cuts.
        counted = [outcome(whole[:length], PDF, tmp_path) for length in range(1, len(whole), len(whole) // 30)]
        assert any(isinstance(outcome, DocumentFault) for outcome in counted)


@pytest.mark.parametrize(("owner", "user"), [("o", ""), ("", "u"), ("o", "u"), ("", "")])
@pytest.mark.parametrize("strength", [2, 3, 4, 6])
def test_every_encryption_is_named_for_what_it_is(tmp_path: Path, owner: str, user: str, strength: Any) -> None:
    with pikepdf.open(io.BytesIO(text_pdf(["a"]))) as pdf:
        protection = pikepdf.Encryption(
            owner=owner, user=user, R=strength, aes=strength >= 4, metadata=strength >= 4, allow=pikepdf.Permissions()
        )
        out = io.BytesIO()
        pdf.save(out, encryption=protection)
    found = outcome(out.getvalue(), PDF, tmp_path)
    part = taken_out(out.getvalue(), PDF, tmp_path)
    if not user or (strength == 6 and not owner):  # an empty password opens it: that of the user, or of the owner
        assert (found, part) == (1, None)
        assert not pikepdf.open(tmp_path / "part").is_encrypted
        return
    for fault in (found, part):
        assert isinstance(fault, DocumentFault)
        assert fault.code == "encrypted"


@pytest.mark.parametrize(("kind", "form"), [("PNG", PNG), ("BMP", BMP), ("TIFF", TIFF), ("JPEG", JPEG)])
@pytest.mark.parametrize(
    ("width", "height"),
    [
        (60_000, 60_000),
        (65_535, 65_535),
        (2**31 - 1, 2**31 - 1),
        (1, 2**31 - 1),
        (0, 0),
        (0, 9),
        (9, 0),
        (2**32 - 1, 1),
    ],
)
def test_a_header_that_claims_any_size_is_refused_without_decoding(
    tmp_path: Path, kind: str, form: Format, width: int, height: int
) -> None:
    mask = 0xFFFF if kind == "JPEG" else 0x7FFFFFFF if kind == "BMP" else 0xFFFFFFFF
    content = bombs.picture_header(kind, width & mask, height & mask)
    found = outcome(content, form, tmp_path)
    if (width & mask) * (height & mask) > PIXELS:
        assert isinstance(found, DocumentFault)
    if (width, height) == (60_000, 60_000):
        assert isinstance(found, DocumentFault)
        assert "3,600,000,000 pixels" in str(found)


@pytest.mark.parametrize(("frames", "loop", "pages"), [(1, 0, 1), (5, 0, 5), (5, 4, 5), (5, 2, 5), (300, None, 300)])
def test_frames_that_lead_back_are_counted_once(tmp_path: Path, frames: int, loop: int | None, pages: int) -> None:
    content = bombs.tiff(frames, loop)
    assert outcome(content, TIFF, tmp_path) == pages
    assert taken_out(content, TIFF, tmp_path, pages) is None
    assert count_pages(tmp_path / "part", TIFF, PIXELS) == pages


def test_frames_without_number_are_refused_before_they_cost_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product, "_MOST_FRAMES", 1000)
    assert outcome(bombs.tiff(1000), TIFF, tmp_path) == 1000
    fault = outcome(bombs.tiff(100_000), TIFF, tmp_path)
    assert isinstance(fault, DocumentFault)
    assert fault.code == "too-many-pages"


@pytest.mark.parametrize("size", [(0, 0), (0, 9), (9, 0)])
@pytest.mark.parametrize("entries", [None, 0, 1, 65_535])
def test_frames_of_no_size_are_broken(tmp_path: Path, size: tuple[int, int], entries: int | None) -> None:
    found = outcome(bombs.tiff(3, size=size, entries=entries), TIFF, tmp_path)
    assert isinstance(found, DocumentFault)
    assert found.code == "broken"


def bmp() -> bytes:
    out = io.BytesIO()
    Image.new("L", (40, 30), 128).save(out, "BMP")
    return out.getvalue()


SAMPLES: list[tuple[bytes, Format]] = [
    (text_pdf(["a", "b"]), PDF), (bombs.object_bomb(0), PDF), (tiff(["a", "b"]), TIFF), (bombs.tiff(3), TIFF),
    (png("a"), PNG), (jpeg("a"), JPEG), (bmp(), BMP),
]  # fmt: skip
MAGICS = [b"%PDF-1.7\n", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"]


@pytest.mark.parametrize(("content", "form"), SAMPLES)
def test_samples_cut_off_anywhere_are_read_or_refused(tmp_path: Path, content: bytes, form: Format) -> None:
    for length in range(1, len(content), max(1, len(content) // 60)):
        outcome(content[:length], form, tmp_path)
        if form is TIFF:
            taken_out(content[:length], form, tmp_path)


def looked_at(content: bytes, folder: Path) -> None:
    """Everything that is done to a document before it is sent."""
    file = folder / "document"
    file.write_bytes(content)
    try:
        form = format_of(file, "a.pdf")
    except DocumentFault as fault:
        assert fault.code in ("unsupported-format", "empty")  # noqa: PT017
        return
    found = outcome(content, form, folder, 1_000_000)
    if form is TIFF and isinstance(found, int):
        taken_out(content, form, folder, min(found, 3))


@settings(max_examples=150)
@given(
    sample=st.sampled_from(SAMPLES),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), max_size=12),
    cut=st.none() | st.floats(0, 1),
    twice=st.booleans(),
)
def test_no_change_of_bytes_is_anything_but_the_documents_fault(
    tmp_path: Path, sample: tuple[bytes, Format], changes: list[tuple[float, bytes]], cut: float | None, twice: bool
) -> None:
    content = bytearray(sample[0])
    for where, what in changes:
        place = int(where * len(content))
        content[place : place + len(what)] = what
    if cut is not None:
        del content[int(cut * len(content)) :]
    looked_at(bytes(content) * (1 + twice), tmp_path)


@settings(max_examples=150)
@given(magic=st.sampled_from(MAGICS), body=st.binary(max_size=600))
def test_nothing_that_follows_a_magic_is_anything_but_the_documents_fault(
    tmp_path: Path, magic: bytes, body: bytes
) -> None:
    looked_at(magic + body, tmp_path)


@pytest.mark.parametrize("magic", MAGICS)
def test_a_magic_and_noise_is_the_documents_fault(tmp_path: Path, magic: bytes) -> None:
    for seed in range(3):
        looked_at(magic + bombs.noise(seed, 200_000), tmp_path)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), max_size=6))
def test_no_change_of_bytes_breaks_the_taking_out_of_pages(tmp_path: Path, changes: list[tuple[float, bytes]]) -> None:
    content = bytearray(text_pdf(["a", "b"]))
    for where, what in changes:
        place = int(where * len(content))
        content[place : place + len(what)] = what
    taken_out(bytes(content), PDF, tmp_path, last=2)
