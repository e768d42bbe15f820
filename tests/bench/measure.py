"""The parts of the benchmark, so that a test can run them small."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.documents.results.batch import read_batch
from tasks.documents.results.merge import merge
from tasks.job.coverage import Piece, cover
from tasks.job.record import PageRange
from tests.bench.samples import answer

_BATCH = 10  # pages, as the API makes them


def merge_batches(batch: Path, pages: int, to: Path, text_to: Path | None = None) -> None:
    """Merge a document of which every batch is the same ten pages."""
    pieces = [Piece("r", PageRange(first=first, last=first + _BATCH - 1)) for first in range(1, pages, _BATCH)]
    merged = merge(cover(pages, pieces).shares, lambda _: read_batch(batch, _BATCH), to, text_to)
    assert merged.pages == pages


def peak_mb(batch: Path, pages: int, to: Path) -> float:
    """The most memory that a fresh process takes which does nothing but merge."""
    arguments = [sys.executable, "-m", "tests.bench.peak", str(batch), str(pages), str(to)]
    return int(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout) / 1e6


@dataclass(frozen=True)
class Memory:
    """Peaks in MB."""

    short: float
    long: float


def memory(form: str, folder: Path, short: int = 100, long: int = 1000, words: int = 500) -> Memory:
    """Peak memory of merging a short and a long document."""
    batch = folder / "batch.json"
    batch.write_text(json.dumps(answer(form, _BATCH, words)), encoding="utf-8")
    return Memory(*(peak_mb(batch, pages, folder / "result.json") for pages in (short, long)))


@dataclass(frozen=True)
class Speed:
    """Pages a second: of merging, of a plain `json.load` and `json.dump`, and of `loads` and `dumps`."""

    merged: float
    plain: float
    in_memory: float


def speed(form: str, folder: Path, pages: int = 100, words: int = 500, repetitions: int = 5) -> Speed:
    """Medians; each repetition does one after the other, so that a busy machine slows all of them."""
    batch, whole, result = folder / "batch.json", folder / "whole.json", folder / "result.json"
    batch.write_text(json.dumps(answer(form, _BATCH, words)), encoding="utf-8")
    merge_batches(batch, pages, whole)

    def plain() -> None:
        with whole.open(encoding="utf-8") as read, result.open("w", encoding="utf-8") as write:
            json.dump(json.load(read), write)

    def in_memory() -> None:
        result.write_text(json.dumps(json.loads(whole.read_bytes())), encoding="utf-8")

    works: list[Callable[[], None]] = [lambda: merge_batches(batch, pages, result), plain, in_memory]
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(repetitions):
        for work, seconds in zip(works, taken, strict=True):
            begun = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - begun)
    return Speed(*(pages / statistics.median(seconds) for seconds in taken))
