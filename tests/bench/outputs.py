"""Prints a table of speed and memory of what is made of results: `python -m tests.bench.outputs [PAGES …]`.

Each is a whole command, from its start to its end, over one document of so many pages. Beside `index` runs the index of
s3-ocr, where its command is installed, over the same words as its own kind of results, in the same S3 server.
"""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import boto3

from deployments.local.stack import REGION, S3_ACCESS_KEY, S3_SECRET_KEY, LocalStack
from tests.outputs import pictured
from tests.outputs.result_samples import answer

WORDS = 300  # a page
_BLOCKS = 1000  # of Textract, an object
_VOCABULARY = ("annual", "report", "harbour", "revenue", "서울", "보고서", "figures", "quality", "station", "검색을")


@dataclass(frozen=True)
class Took:
    """What a command took: seconds, those of a processor, and the most memory in MB."""

    seconds: float
    processor: float
    megabytes: float


def lines(pages: int) -> list[list[str]]:
    """Pages of words in lines of ten."""
    made = []
    for page in range(pages):
        words = [f"{_VOCABULARY[(page + n) % 10]}{n if n % 3 == 0 else ''}" for n in range(WORDS)]
        made.append([" ".join(words[at : at + 10]) for at in range(0, WORDS, 10)])
    return made


def measured(command: Sequence[str], environment: Mapping[str, str]) -> Took:
    """Run a command to its end."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    complaints = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, complaints.decode()
    return Took(time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def textract(pages: Sequence[Sequence[str]]) -> Iterator[list[dict[str, object]]]:
    """The same words as Textract's blocks, so many an object."""
    blocks: list[dict[str, object]] = []
    for number, page in enumerate(pages, 1):
        blocks.append({"BlockType": "PAGE", "Page": number})
        for line in page:
            box = {"Geometry": {"BoundingBox": {"Left": 0.1, "Top": 0.1, "Width": 0.1, "Height": 0.1}}, "Page": number}
            blocks.append({"BlockType": "LINE", "Text": line, "Confidence": 99.0, **box})
            blocks += [{"BlockType": "WORD", "Text": word, "Confidence": 99.0, **box} for word in line.split()]
    for at in range(0, len(blocks), _BLOCKS):
        yield blocks[at : at + _BLOCKS]


def prepare(pages: int, folder: Path, s3_url: str) -> None:
    """Write a result and its document into a folder, and the result and Textract's of the same words into S3."""
    made = lines(pages)
    result = folder / "in" / "scan.pdf.ocr.json"
    result.parent.mkdir()
    result.write_text(json.dumps(answer(made)), encoding="utf-8")
    (folder / "in" / "scan.pdf").write_bytes(pictured.document(made, "PDF"))
    s3 = boto3.client(
        "s3", endpoint_url=s3_url, region_name=REGION, aws_access_key_id=S3_ACCESS_KEY,
        aws_secret_access_key=S3_SECRET_KEY,
    )  # fmt: skip
    ours, theirs = f"ours-{pages}", f"theirs-{pages}"
    for bucket in (ours, theirs):
        s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=ours, Key="ocr/scan.pdf.ocr.json", Body=result.read_bytes())
    s3.put_object(Bucket=theirs, Key="scan.pdf", Body=b"%PDF-")
    job = json.dumps({"job_id": "job", "etag": "e"}).encode()
    s3.put_object(Bucket=theirs, Key="scan.pdf.s3-ocr.json", Body=job)
    for number, blocks in enumerate(textract(made), 1):
        body = json.dumps({"Blocks": blocks}).encode()
        s3.put_object(Bucket=theirs, Key=f"textract-output/job/{number}", Body=body)


def measure(pages: int, folder: Path, stack: LocalStack) -> Iterator[tuple[str, Took]]:
    """Measure each output of a document of so many pages."""
    # Elsewhere: a process that is started counts the memory of the one that starts it as its own peak.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as maker:
        maker.submit(prepare, pages, folder, stack.s3_url).result()
    keys = {"AWS_ACCESS_KEY_ID": S3_ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": S3_SECRET_KEY, "AWS_DEFAULT_REGION": REGION}
    environment = {**os.environ, **keys, "AWS_ENDPOINT_URL_S3": stack.s3_url, "TMPDIR": str(folder)}
    result = str(folder / "in" / "scan.pdf.ocr.json")
    bulk_ocr = [sys.executable, "-m", "flows.cli"]
    for name, arguments in {
        "index": ["index", result, str(folder / "a.db")],
        "index, in S3": ["index", f"s3://ours-{pages}/ocr", str(folder / "b.db")],
        "words": ["words", result, str(folder / "words.parquet")],
        "export --to hocr": ["export", result, "--to", "hocr", "-o", str(folder / "scan.hocr")],
        "export --to alto": ["export", result, "--to", "alto", "-o", str(folder / "scan.xml")],
        "export --to jsonl": ["export", result, "--to", "jsonl", "-o", str(folder / "scan.jsonl")],
        "view": ["view", result, "-o", str(folder / "scan.html")],
    }.items():
        yield name, measured([*bulk_ocr, *arguments], environment)
    other = shutil.which("s3-ocr")
    if other is not None:
        command = [other, "index", f"theirs-{pages}", str(folder / "c.db"), "--endpoint-url", stack.s3_url]
        yield "s3-ocr index, in S3", measured(command, environment)


def main(sizes: Sequence[int]) -> None:
    """Print the table."""
    print(
        f"Whole commands over one document, {WORDS} words a page; pages a second of processor time, which others on the"
    )
    print("machine change little; memory is the peak of the process.\n")
    print("| pages | command | seconds | processor seconds | pages/s | memory, MB |\n|--:|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder, LocalStack(Path(folder) / "stack", services=("s3",)) as stack:
        for pages in sizes:
            room = Path(folder) / str(pages)
            room.mkdir()
            for name, took in measure(pages, room, stack):
                times = f"{took.seconds:.1f} | {took.processor:.1f} | {pages / took.processor:.0f}"
                print(f"| {pages} | {name} | {times} | {took.megabytes:.0f} |", flush=True)


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [10, 300, 1000])
