"""Office documents and HEIC pictures that were made to hurt: one document's fault, in bounded time and memory."""

import io
import json
import os
import random
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.documents.files import inspect as product
from tasks.documents.files.formats import DOCX, HEIC, HWP, JPEG, PDF, PPTX
from tasks.documents.files.inspect import Inspected, InspectionLimits, inspect_document
from tasks.faults import DocumentFault
from tests.compound import compound
from tests.hostile import bombs
from tests.hostile.bombs import WORD, Member, archive
from tests.sample_documents import bmp, docx, heic, hwp, hwpx, jpeg, png, pptx, text_pdf, tiff, xlsx
from tests.waiting import PATIENCE, processor_seconds

MOST = 110  # MB of memory, whatever the document claims
LONGEST = 20.0  # seconds of processor time: a busy machine takes no more of them
UNLIKE = "broken: the {} is broken (its structure is not that of a real document): repair or replace it"

# Looks into the documents in a process of its own: what they say, and the memory that it took.
_PROBE = """
import json, re, resource, sys
from pathlib import Path
from tasks.documents.files.formats import DOCX, HEIC, HWP, JPEG, PDF, PPTX
from tasks.documents.files.inspect import InspectionLimits, inspect_document
from tasks.faults import DocumentFault
def peak():
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1]) >> 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)
before, said = peak(), []
for file in sys.argv[2:]:
    try:
        found = inspect_document(Path(file), sys.argv[1], InspectionLimits(200_000_000, 150))
        said.append([found.form.name, found.pages, found.estimate])
    except DocumentFault as fault:
        said.append(f"{fault.code}: {fault}")
print(json.dumps({"said": said, "took": peak() - before}))
"""


def probed(contents: list[bytes], name: str, folder: Path) -> tuple[list[Any], int]:
    """What looking at documents says, and the MB it took; it ends on its own, or the test fails."""
    files = []
    for number, content in enumerate(contents):
        files.append(folder / f"document-{number}")
        files[-1].write_bytes(content)
    ended = subprocess.run(
        [sys.executable, "-c", _PROBE, name, *map(str, files)],
        capture_output=True,
        timeout=PATIENCE,
        cwd=Path(product.__file__).parents[3],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30)),
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode()[-500:]
    answer = json.loads(ended.stdout)
    return answer["said"], answer["took"]


def looked_at(content: bytes, name: str, folder: Path) -> Inspected | DocumentFault:
    """What a document is, or what is wrong with it; nothing else may come of it."""
    file, started = folder / "document", processor_seconds()
    file.write_bytes(content)
    try:
        found = inspect_document(file, name, InspectionLimits(200_000_000, 150))
        assert found.pages is None or found.pages == found.estimate
        assert 1 <= found.estimate <= 10_000
        return found
    except DocumentFault as fault:
        assert str(folder) not in str(fault)  # noqa: PT017
        assert len(str(fault)) < 400  # noqa: PT017
        return fault
    finally:
        assert processor_seconds() - started < LONGEST


def fault_of(content: bytes, name: str, folder: Path) -> DocumentFault:
    found = looked_at(content, name, folder)
    assert isinstance(found, DocumentFault), found
    return found


def hwp_claiming(summary: bytes) -> bytes:
    header = b"HWP Document File".ljust(32, b"\0") + bytes(224)
    return compound({"FileHeader": header, "\x05HwpSummaryInformation": summary})


@pytest.mark.parametrize(
    ("make", "name", "said"),
    [
        (lambda: bombs.crowded_archive(1_000_000), "a.docx", UNLIKE.format("DOCX")),
        (lambda: bombs.swollen(b"[Content_Types].xml", 250, bombs.WORD_TYPES), "a.docx", ["DOCX", None, 1]),
        (lambda: bombs.swollen(b"[Content_Types].xml", 250), "a.docx", "unsupported-format: "),
        (lambda: bombs.swollen(b"docProps/app.xml", 250, b"<Pages>7</Pages>"), "a.docx", ["DOCX", None, 7]),
        (lambda: bombs.swollen(b"mimetype", 250, b"application/hwp+zip", alone=True), "a.hwpx", ["HWPX", None, 1]),
        (lambda: bombs.endless_nothing(100), "a.docx", UNLIKE.format("DOCX")),
        (lambda: bombs.ole_fat_bomb(), "a.hwp", UNLIKE.format("HWP")),
        (lambda: bombs.ole_directory_ring(6), "a.hwp", UNLIKE.format("HWP")),
        (lambda: bombs.ole_stream_ring(1 << 40), "a.hwp", UNLIKE.format("HWP")),
        (lambda: bombs.ole_crowd(60_000), "a.hwp", UNLIKE.format("HWP")),
        (lambda: bombs.ole_chain(5000), "a.hwp", "broken: the HWP is broken (maximum recursion depth exceeded"),
        (lambda: hwp_claiming(bombs.summary(0x1005, 0xFFFFFFFF)), "a.hwp", ["HWP", None, 1]),
        (lambda: bombs.heic_items(900), "a.heic", ["HEIC", None, 900]),
        (lambda: bombs.heic_items(60_000), "a.heic", "broken: the HEIC is broken (Memory allocation error: Security"),
    ],
)
def test_no_claim_costs_time_or_memory(tmp_path: Path, make: Callable[[], bytes], name: str, said: object) -> None:
    (found,), took = probed([make()], name, tmp_path)
    assert found.startswith(said) if isinstance(said, str) else found == said
    assert took < MOST


def test_what_is_large_for_good_reasons_is_still_read(tmp_path: Path) -> None:
    types = Member(
        b"[Content_Types].xml", bombs.WORD_TYPES.replace(b"wordprocessingml.document", b"presentationml.presentation")
    )
    slides = [Member(b"ppt/slides/slide%d.xml" % number, b"<p:sld/>") for number in range(1, 3001)]
    media = [Member(b"ppt/media/image%d.png" % number, bytes(9), stored=True) for number in range(15_000)]
    assert looked_at(archive([types, *slides, *media]), "a.pptx", tmp_path) == Inspected(PPTX, None, 3000)
    text = bombs.noise(1, 3_000_000)
    long = compound({"FileHeader": b"HWP Document File".ljust(256, b"\0"), "BodyText/Section0": text, "a": bytes(99)})
    assert looked_at(long, "a.hwp", tmp_path) == Inspected(HWP, None, 1)
    assert "is OLE; supported are" in str(
        fault_of(bombs.ole_crowd(4000), "a.doc", tmp_path)
    )  # whole, only of no kind known


@pytest.mark.parametrize("name", ["a.docx", "a.hwpx", "a.zip", "a"])
def test_archives_that_no_program_writes_are_read_or_refused(tmp_path: Path, name: str) -> None:
    codes = {"read"}
    for content in bombs.odd_archives():
        found = looked_at(content, name, tmp_path)
        codes.add(found.code if isinstance(found, DocumentFault) else "read")
    assert codes == {"read", "unsupported-format", "encrypted"} | (
        {"broken"} if name in ("a.docx", "a.hwpx") else set()
    )


def test_compound_files_that_lead_round_or_nowhere_are_read_or_refused(tmp_path: Path) -> None:
    codes = {"read"}
    for content in bombs.odd_compounds():
        found = looked_at(content, "a.hwp", tmp_path)
        codes.add(found.code if isinstance(found, DocumentFault) else "read")
    assert codes == {"read", "unsupported-format", "encrypted", "broken"}


@pytest.mark.parametrize(
    ("claim", "estimate"),
    [(b"0", 1), (b"-5", 1), (b"12", 12), (b"999999", 10_000), (b"1000000000", 1), (b"9" * 500_000, 1), (b"", 1)],
)
def test_the_pages_that_a_word_document_claims_are_an_estimate(tmp_path: Path, claim: bytes, estimate: int) -> None:
    app = Member(b"docProps/app.xml", b"<Properties><Pages>" + claim + b"</Pages></Properties>")
    assert looked_at(archive([*WORD, app]), "a.docx", tmp_path) == Inspected(DOCX, None, estimate)


@pytest.mark.parametrize(
    ("summary", "estimate"),
    [
        (bombs.summary(3, 12), 12),
        (bombs.summary(3, 10**9), 10_000),
        (bombs.summary(3, 2**32 - 1), 1),
        (bombs.summary(3, 0), 1),
        (bombs.summary(31, 12), 1),
        (bombs.summary(0x1000 | 12, 2**32 - 1), 1),
        (bombs.summary(3, 12, count=2**32 - 1), 12),
        (bombs.summary(3, 12, count=2**32 - 1, number=15), 1),
        (bombs.summary(3, 12, offset=2**32 - 1), 1),
        (bombs.summary(3, 12)[:50], 1),
        (bombs.summary(3, 12)[:44] + b"\xff" * 4, 1),
        (b"", 1),
    ],
)
def test_the_pages_that_a_hangul_document_claims_are_an_estimate(tmp_path: Path, summary: bytes, estimate: int) -> None:
    assert looked_at(hwp_claiming(summary), "a.hwp", tmp_path) == Inspected(HWP, None, estimate)


@pytest.mark.parametrize("flags", [1, 1 | 8, 0x41])
def test_an_archive_with_a_password_is_encrypted(tmp_path: Path, flags: int) -> None:
    content = archive([Member(WORD[0].name, WORD[0].data, flags=flags), WORD[1]])
    fault = fault_of(content, "a.docx", tmp_path)
    assert (fault.code, str(fault)) == (
        "encrypted", "the document is encrypted with a password: remove the password first",
    )  # fmt: skip


def heic_with_size(width: int, height: int) -> bytes:
    return bombs.heic_items(1, size=(width, height))


@pytest.mark.parametrize(
    ("width", "height"),
    [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (2**32 - 1, 1), (2**32 - 1, 2**32 - 1), (2**31, 2), (0, 0), (0, 9)],
)
def test_a_picture_that_claims_any_size_is_refused_without_decoding(tmp_path: Path, width: int, height: int) -> None:
    fault = fault_of(heic_with_size(width, height), "a.heic", tmp_path)
    assert fault.code == ("too-many-pixels" if width * height > 200_000_000 and width < 2**31 else "broken")


@pytest.mark.parametrize(
    "references",
    [{1: [1]}, {1: [2], 2: [3], 3: [1]}, {1: [99]}, {1: []}, {n: [n + 1] * 10 for n in range(1, 60)},
     {n: [n + 1] for n in range(1, 900)}],
)  # fmt: skip
@pytest.mark.parametrize("kind", [b"grid", b"iovl", b"iden"])
def test_pictures_made_of_one_another_are_none(tmp_path: Path, kind: bytes, references: dict[int, list[int]]) -> None:
    content = bombs.heic_items(len(references) + 1, kind, references)
    assert fault_of(content, "a.heic", tmp_path).code == "broken"


@pytest.mark.parametrize("claimed", [0, 1, 2, 4, 65_535])
def test_the_number_of_pictures_claimed_is_not_believed(tmp_path: Path, claimed: int) -> None:
    found = looked_at(bombs.heic_items(3, claimed=claimed), "a.heic", tmp_path)
    assert isinstance(found, DocumentFault) or found.estimate <= 3


def test_a_heic_too_large_for_memory_is_not_read_into_it(tmp_path: Path) -> None:
    file = tmp_path / "document"
    file.write_bytes(heic("a"))
    os.truncate(file, 600_000_000)  # takes no disk
    with pytest.raises(
        DocumentFault, match=r"the HEIC is 600\.0 MB, but only 268\.4 MB can be read: compress it"
    ) as caught:
        inspect_document(file, "a.heic", InspectionLimits(200_000_000, 150))
    assert caught.value.code == "too-large"


def test_a_file_that_is_two_things_is_the_one_that_it_begins_with(tmp_path: Path) -> None:
    word, pdf = docx(["a"]), text_pdf(["a", "b"])
    with io.BytesIO() as out:
        out.write(pdf)
        with zipfile.ZipFile(out, "a") as both:
            both.writestr("[Content_Types].xml", bombs.WORD_TYPES)
        pdf_with_zip = out.getvalue()
    zip_with_pdf = archive([Member(b"a.pdf", pdf, stored=True), *WORD])
    nothing_but_pdf = archive([Member(b"a.pdf", pdf, stored=True)])
    for name in ("a.pdf", "a.docx", "a"):
        assert looked_at(pdf_with_zip, name, tmp_path) == Inspected(PDF, 2, 2)
        assert looked_at(pdf + word, name, tmp_path) == Inspected(PDF, 2, 2)
        assert looked_at(zip_with_pdf, name, tmp_path) == Inspected(DOCX, None, 1)
        assert "is ZIP; supported are" in str(fault_of(nothing_but_pdf, name, tmp_path))
        assert looked_at(jpeg("a") + word, name, tmp_path) == Inspected(JPEG, 1, 1)
        assert looked_at(heic("a") + word, name, tmp_path) == Inspected(HEIC, 1, 1)


SAMPLES: dict[str, tuple[str, bytes]] = {
    "heic": ("a.heic", heic("a", images=2)), "grid": ("a.heic", bombs.heic_items(4, b"grid", {1: [2, 3, 4]})),
    "docx": ("a.docx", docx(["a"])), "pptx": ("a.pptx", pptx(["a"])), "xlsx": ("a.xlsx", xlsx(["a"])),
    "hwp": ("a.hwp", hwp(["a"])), "summary": ("a.hwp", hwp_claiming(bombs.summary(3, 12))),
    "hwpx": ("a.hwpx", hwpx(["a"])), "pdf": ("a.pdf", text_pdf(["a", "b"])), "tiff": ("a.tif", tiff(["a", "b"])),
    "png": ("a.png", png("a")), "jpeg": ("a.jpg", jpeg("a")), "bmp": ("a.bmp", bmp("a")),
}  # fmt: skip
_FIELDS = (b"\0", b"\xff", b"\x7f", b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\1")


def garbled(content: bytes, times: int) -> Iterator[bytes]:
    """The content with numbers in it changed and its end cut off, the same every time; mostly where its tables are."""
    chance = random.Random(len(content))
    for _ in range(times):
        copy = bytearray(content)
        for _ in range(chance.choice([1, 1, 3, 10, 40])):
            reach = chance.choice([min(3000, len(copy)), len(copy)])
            # An archive keeps its tables at its end.
            place = chance.choice([chance.randrange(reach), len(copy) - 1 - chance.randrange(reach)])
            field = chance.choice((*_FIELDS, bytes([chance.randrange(256)])))
            copy[place : place + len(field)] = field
        yield bytes(copy[: chance.randrange(1, len(copy))] if chance.random() < 0.2 else copy)


@pytest.mark.parametrize("sample", SAMPLES)
def test_garbled_documents_are_read_or_refused(tmp_path: Path, sample: str) -> None:
    name, content = SAMPLES[sample]
    # What qpdf refuses or repairs, pdfium is asked in a process of its own: fewer of these.
    times = 60 if sample == "pdf" else 250
    answers, took = probed([content, *garbled(content, times)], name, tmp_path)  # a library in C may end the process
    assert isinstance(answers[0], list) or sample == "grid"
    read = [answer for answer in answers if isinstance(answer, list)]
    refused = {answer.partition(":")[0] for answer in answers if isinstance(answer, str)}
    assert all(1 <= estimate <= 10_000 and pages in (None, estimate) for _, pages, estimate in read)
    assert refused <= {"broken", "unsupported-format", "encrypted", "too-many-pixels", "no-pages", "too-many-pages"}
    assert "broken" in refused  # the damage is of both kinds, or the test proves nothing
    assert len(read) > 1 or sample == "grid"
    assert took < MOST
