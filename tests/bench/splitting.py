"""Splitting documents that are too large for a request: memory, disk and time."""

import json
import os
import random
import shutil
import struct
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.documents.files import extract as program
from tasks.documents.files.inspect import InspectionLimits, inspect_document
from tasks.documents.files.split import divide
from tasks.job.record import PageRange
from tests.bench.peak import peak

LIMIT = 50_000_000  # bytes, as the API has it
_LIMITS = InspectionLimits(200_000_000, 150)


def large_pdf(to: Path, pages: int, page_bytes: int) -> None:
    """A PDF of pages with pictures that nothing can pack any further; written page by page, as it may be large."""
    places, chance = [], random.Random(1)
    with to.open("wb") as out:
        out.write(b"%PDF-1.7\n")

        def add(number: int, body: bytes) -> None:
            places.append((number, out.tell()))
            out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))

        for page in range(pages):
            own = 3 + 3 * page
            picture = b"<</Type/XObject/Subtype/Image/Width 1000/Height %d/BitsPerComponent 8/ColorSpace/DeviceGray" % (
                page_bytes // 1000
            )
            data = chance.randbytes(page_bytes)
            add(own, b"%s/Length %d>>\nstream\n%s\nendstream" % (picture, len(data), data))
            draw = b"595 0 0 842 0 0 cm /P Do"
            add(own + 1, b"<</Length %d>>\nstream\n%s\nendstream" % (len(draw), draw))
            holds = b"/MediaBox[0 0 595 842]/Resources<</XObject<</P %d 0 R>>>>/Contents %d 0 R" % (own, own + 1)
            add(own + 2, b"<</Type/Page/Parent 2 0 R%s>>" % holds)
        kids = b" ".join(b"%d 0 R" % (5 + 3 * page) for page in range(pages))
        add(1, b"<</Type/Catalog/Pages 2 0 R>>")
        add(2, b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, pages))
        table = out.tell()
        out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(places) + 1))
        for _, place in sorted(places):
            out.write(b"%010d 00000 n \n" % place)
        out.write(b"trailer <</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(places) + 1, table))


def large_tiff(to: Path, pages: int, page_bytes: int, rows: int = 1) -> None:
    """A grey TIFF in strips of few rows, so that where they lie is a long list, too."""
    width, chance, pointer = 1000, random.Random(2), 4
    height = page_bytes // width
    strips = -(-height // rows)
    with to.open("wb") as out:
        out.write(b"II*\0" + bytes(4))
        for _ in range(pages):
            start = out.tell()
            out.write(chance.randbytes(width * height))
            lists = out.tell()
            out.write(struct.pack(f"<{strips}I", *(start + strip * rows * width for strip in range(strips))))
            lengths = [min(rows, height - strip * rows) * width for strip in range(strips)]
            out.write(struct.pack(f"<{strips}I", *lengths))
            place = out.tell()
            tags = [
                (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
                (273, 4, strips, lists), (277, 3, 1, 1), (278, 4, 1, rows), (279, 4, strips, lists + 4 * strips),
            ]  # fmt: skip
            out.write(struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4))
            following = out.tell() - 4
            out.seek(pointer)
            out.write(struct.pack("<I", place))
            out.seek(0, 2)
            pointer = following


@dataclass(frozen=True)
class Split:
    """What it took: memory in MB (peaks of the process that splits, and of those that take pages out), seconds."""

    megabytes: float
    pages: int
    parts: int
    parent: float
    child: float
    disk: float
    seconds: float
    copying: float


def split(document: Path, most: int, folder: Path) -> Split:
    """Split a document in a fresh process, and see that the parts hold all pages."""
    arguments = [sys.executable, "-m", "tests.bench.splitting", str(document), str(most), str(folder)]
    return Split(**json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout))


def _copied(document: Path, to: Path) -> float:
    begun = time.perf_counter()
    shutil.copyfile(document, to)
    taken = time.perf_counter() - begun
    to.unlink()
    return taken


def _main(document: Path, most: int, folder: Path) -> Split:
    peaks = folder / "peaks"
    os.environ |= {"BENCH_PART": program.__file__, "BENCH_PEAKS": str(peaks)}
    copied = [_copied(document, folder / "copy")]
    program.__file__ = str(Path(__file__).with_name("measured_part.py"))
    begun = time.perf_counter()
    inspected = inspect_document(document, document.name, _LIMITS)
    parts = divide(document, inspected, [PageRange(first=1, last=inspected.estimate)], 1000, most, folder)
    seconds = time.perf_counter() - begun
    highest = peak()
    copied.append(_copied(document, folder / "copy"))
    for part in parts:
        assert part.pages is not None
        assert inspect_document(part.file, "part", _LIMITS).pages == len(part.pages)
    assert sum(len(part.pages) for part in parts if part.pages) == inspected.pages
    return Split(
        megabytes=document.stat().st_size / 1e6,
        pages=inspected.estimate,
        parts=len(parts),
        parent=highest / 1e6,
        child=max(map(int, peaks.read_text().split())) / 1e6,
        disk=sum(part.file.stat().st_size for part in parts) / 1e6,
        seconds=seconds,
        copying=sum(copied) / len(copied),
    )


if __name__ == "__main__":
    print(json.dumps(asdict(_main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))))
