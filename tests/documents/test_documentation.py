"""The page about formats and limits says what the program does, in the program's own words."""

import fnmatch
import io
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pikepdf
import pytest

from tasks.documents.files import inspect
from tasks.documents.files.formats import FORMATS
from tasks.documents.files.inspect import Inspected, InspectionLimits, inspect_document
from tasks.documents.files.split import divide
from tasks.faults import DocumentFault, Fault
from tasks.job.record import PageRange
from tasks.options import Options
from tasks.upstage import errors
from tasks.upstage.limits import Limits
from tests.hostile import bombs
from tests.sample_documents import encrypted_docx, encrypted_pdf, png, text_pdf

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
API = Limits()
NOTHING = "nothing: "
REFUSE_RESTRICTED = "`--refuse-restricted`"


def table(header: str) -> list[list[str]]:
    """The cells of the table under a header."""
    lines = PAGE[PAGE.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def read(content: bytes, name: str, folder: Path, size: int | None = None) -> Inspected:
    """Do what is done to a document before it is sent; it may be as large as one likes, without taking disk."""
    file = folder / name
    file.write_bytes(content)
    if size:
        os.truncate(file, size)
    found = inspect_document(file, name, InspectionLimits(API.pixels, API.dpi))
    divide(file, found, [PageRange(first=1, last=found.estimate)], API.pages, API.bytes, folder)
    return found


def pdf(boxes: list[list[int]], **how: Any) -> bytes:
    out = io.BytesIO()
    with pikepdf.new() as made:
        for box in boxes:
            made.add_blank_page().MediaBox = pikepdf.Array(box)
        made.save(out, **how)
    return out.getvalue()


def large_page(folder: Path) -> Inspected:
    with pikepdf.new() as made:
        made.add_blank_page().Contents = made.make_stream(bytes(60_000_000))
        made.save(folder / "large", compress_streams=False)
    return read((folder / "large").read_bytes(), "a.pdf", folder)


def large_word(folder: Path) -> Inspected:
    content = bombs.archive([*bombs.WORD, bombs.Member(b"x", stored=True)])
    padded = bombs.archive([*bombs.WORD, bombs.Member(b"x", bytes(60_000_000 - len(content)), stored=True)])
    return read(padded, "a.docx", folder)


def restricted(folder: Path) -> Inspected:
    content = pdf([[0, 0, 9, 9]], encryption=pikepdf.Encryption(owner="o", user=""))
    (folder / "a.pdf").write_bytes(content)
    return inspect_document(folder / "a.pdf", "a.pdf", InspectionLimits(API.pixels, API.dpi, refuse_restricted=True))


def with_catalogue(more: bytes) -> bytes:
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Resources<<>>>>"
    catalogue = b"<</Type/Catalog/Pages 2 0 R%s>>" % more
    return bombs.pdf({1: catalogue, 2: b"<</Type/Pages/Kids[3 0 R]/Count 1>>", 3: page})


def refused_by_the_api(_: Path) -> Fault:
    raise errors.fault_of(413, b"", {}, datetime.now(UTC), submitting="async")


PRODUCED: dict[str, Callable[[Path], object]] = {
    "pages of an indivisible document": refused_by_the_api,
    "size of a single page of them": large_page,
    "size of a picture": lambda folder: read(png("a"), "a.png", folder, 60_000_000),
    "size of an office document": large_word,
    "size of a HEIC, regardless of the setting": lambda folder: read(
        bombs.heic_items(1), "a.heic", folder, 600_000_000
    ),
    "pixels of a page": lambda folder: read(bombs.picture_header("PNG", 60_000, 60_000), "a.png", folder),
    "resolution of a page of a PDF": lambda folder: read(pdf([[0, 0, 7200, 7200]]), "a.pdf", folder),
    "frames of a TIFF": lambda folder: read(bombs.tiff(20_001), "a.tif", folder),
    "minimum pages": lambda folder: read(pdf([]), "a.pdf", folder),
    "minimum bytes": lambda folder: read(b"", "a.pdf", folder),
    "format": lambda folder: read(b"\x01 Dear Sir or Madam", "a.txt", folder),
    "password of a PDF": lambda folder: read(encrypted_pdf(), "a.pdf", folder),
    "recognised format": lambda folder: read(
        bombs.archive([bombs.Member(b"mimetype", b"application/vnd.oasis.opendocument.text")]), "a.odt", folder
    ),
    "certificate of a PDF": lambda folder: read(
        bombs.pdf({1: b"<</Pages 2 0 R>>", 2: b"<</Filter/Adobe.PubSec>>"}, b"/Encrypt 2 0 R"), "a.pdf", folder
    ),
    "owner password of a PDF, if refused": restricted,
    "dynamic form": lambda folder: read(with_catalogue(b"/NeedsRendering true/AcroForm<</XFA[]>>"), "a.pdf", folder),
    "portfolio": lambda folder: read(with_catalogue(b"/Collection<<>>/Names<</EmbeddedFiles<<>>>>"), "a.pdf", folder),
    "password of an office document": lambda folder: read(encrypted_docx(), "a.docx", folder),
    "tables of an archive or a compound file": lambda folder: read(bombs.crowded_archive(100_000), "a.docx", folder),
    "damage": lambda folder: read(png("a")[:20], "a.png", folder),
}


def test_every_format_is_in_the_table() -> None:
    assert [row[0] for row in table("| format |")] == [form.name for form in sorted(FORMATS, key=order)]


def order(form: Any) -> int:
    return ["PDF", "TIFF", "JPEG", "PNG", "BMP", "HEIC", "DOCX", "PPTX", "XLSX", "HWP", "HWPX"].index(form.name)


def test_what_can_be_divided_is_what_the_table_says() -> None:
    split_column = {row[0]: row[3] for row in table("| format |")}
    assert {name for name, split in split_column.items() if split.startswith("by ")} == {
        form.name for form in FORMATS if form.divisible
    }


def test_every_test_that_is_named_is_there() -> None:
    named = [name for _, tests in table("| column |") for name in re.findall(r"`([^`]+)`", tests)]
    assert len(named) > 10
    for name in named:
        file, pattern = name.split("::")
        tests = re.findall(r"^def (test_\w+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
        assert fnmatch.filter(tests, pattern), name


LIMITS = {row[0]: row[1:] for row in table("| limit |")}


def test_every_sentence_is_produced_here() -> None:
    assert {limit for limit, row in LIMITS.items() if not row[3].startswith(NOTHING)} == set(PRODUCED)


@pytest.mark.parametrize("limit", PRODUCED)
def test_the_sentence_is_the_one_that_the_program_says(tmp_path: Path, limit: str) -> None:
    with pytest.raises(DocumentFault) as caught:
        PRODUCED[limit](tmp_path)
    words = ".+".join(re.escape(piece) for piece in LIMITS[limit][3].split("…"))
    assert re.fullmatch(words, str(caught.value)), str(caught.value)


def test_the_settings_and_their_defaults_are_the_programs() -> None:
    for setting, default, *_ in LIMITS.values():
        if setting == REFUSE_RESTRICTED:
            assert default == ("yes" if Options().refuse_restricted else "no")
        elif setting != "none":
            field = setting.strip("`").removeprefix("--limits.").replace("-", "_")
            assert float(default.replace(",", "")) == Limits.model_fields[field].default
    assert {setting for setting, *_ in LIMITS.values()} == {
        "none", REFUSE_RESTRICTED, *(f"`--limits.{name.replace('_', '-')}`" for name in Limits.model_fields)
    }  # fmt: skip
    assert LIMITS["frames of a TIFF"][1] == f"{inspect._MOST_FRAMES:,}"


def test_nothing_is_said_where_a_document_is_sent_in_parts(tmp_path: Path) -> None:
    file = tmp_path / "document"
    file.write_bytes(text_pdf(list("abcd")))
    found = inspect_document(file, "a.pdf", InspectionLimits(API.pixels, API.dpi))
    assert len(divide(file, found, [PageRange(first=1, last=4)], 2, API.bytes, tmp_path)) == 2
