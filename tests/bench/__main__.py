"""Prints a table of memory and speed: `python -m tests.bench`, about two minutes."""

import tempfile
from pathlib import Path

from tests.bench.measure import memory, speed
from tests.bench.samples import FORMS


def main() -> None:
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
    main()
