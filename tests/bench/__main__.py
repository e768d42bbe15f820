"""Prints tables of memory and speed: `python -m tests.bench [merging] [splitting]`, about three minutes."""

import sys
import tempfile
from pathlib import Path

from tests.bench.measure import memory, speed
from tests.bench.samples import FORMS
from tests.bench.splitting import LIMIT, large_pdf, large_tiff, split


def splitting() -> None:
    """Measure documents far over the limit."""
    print(
        f"Documents split by size ({LIMIT / 1e6:.0f} MB a part). Memory is the peak (VmHWM) of the process that splits,"
    )
    print(
        "and of those that take pages out; it counts the pages of the mapped document that were touched. The ratio is"
    )
    print("to `shutil.copyfile` of the document, before and after.\n")
    print(
        "| document | MB | pages | parts | memory of parent, MB | of child, MB | disk, MB | seconds "
        "| copyfile, seconds | ratio |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name, make, pages, page_bytes in (
        ("PDF", large_pdf, 100, 500_000),
        ("PDF", large_pdf, 1000, 500_000),
        ("TIFF, a strip a row", large_tiff, 60, 1_000_000),
        ("TIFF, a strip a row", large_tiff, 300, 1_000_000),
    ):
        with tempfile.TemporaryDirectory() as folder:
            document, room = Path(folder) / "document", Path(folder) / "parts"
            room.mkdir()
            make(document, pages, page_bytes)
            took = split(document, LIMIT, room)
        print(
            f"| {name} | {took.megabytes:.0f} | {took.pages} | {took.parts} | {took.parent:.0f} | {took.child:.0f} "
            f"| {took.disk:.0f} | {took.seconds:.1f} | {took.copying:.2f} | {took.seconds / took.copying:.1f} |",
            flush=True,
        )


def merging() -> None:
    """Measure every form."""
    print(
        "Pages of 500 words, in batches of ten pages on disk. Memory is the peak of a process that does nothing else;"
    )
    print("ratios are to the same pages as one file, read and written whole.\n")
    print(
        "| answer form | 100 pages, MB | 1,000 pages, MB | difference, MB | merged, pages/s "
        "| json.load + json.dump, pages/s | ratio | json.loads + json.dumps, pages/s | ratio |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for form in FORMS:
        with tempfile.TemporaryDirectory() as folder:
            took = memory(form, Path(folder))
            fast = speed(form, Path(folder))
        print(
            f"| {form} | {took.short:.0f} | {took.long:.0f} | {took.long - took.short:+.1f} | {fast.merged:.0f} "
            f"| {fast.plain:.0f} | {fast.merged / fast.plain:.2f} "
            f"| {fast.in_memory:.0f} | {fast.merged / fast.in_memory:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["merging", "splitting"]
    if "merging" in wanted:
        merging()
    if "splitting" in wanted:
        splitting()
