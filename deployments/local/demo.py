"""`bulk-ocr demo`: OCRs sample scans on the local stack, with real recognition.

It starts the stack, uploads the samples to a bucket, runs the command that a user would run, and shows the results.
"""

import json
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import boto3
from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deployments.local.samples import make_samples
from deployments.local.signals import stop_on_signals
from deployments.local.stack import DEFAULT_DATA, REGION, S3_ACCESS_KEY, S3_SECRET_KEY, LocalStack, StackError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

BUCKET = "demo"
SOURCE = f"s3://{BUCKET}/scans"
DESTINATION = f"s3://{BUCKET}/ocr"
_EXCERPT_LINES = 6

app = App(name="bulk-ocr demo", version_flags=[])
console = Console(highlight=False)


@app.default
def demo(
    *,
    exit_when_done: Annotated[bool, Parameter(name="--exit", negative="")] = False,
    data: Path = DEFAULT_DATA,
) -> int:
    """OCR sample documents on a local stack, and keep the Prefect UI up until interrupted.

    Args:
        exit_when_done: stop when done; the default if standard input is not a terminal.
        data: the data folder, which is kept.
    """
    stop_on_signals()
    console.print(f"Starting S3, a stand-in for the OCR API and Prefect on this machine; data in [bold]{data}[/] …")
    try:
        with LocalStack(data) as stack:
            return _demo(stack, stay=not exit_when_done and sys.stdin.isatty())
    except StackError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 0


def _demo(stack: LocalStack, *, stay: bool) -> int:
    s3 = boto3.client(
        "s3",
        endpoint_url=stack.s3_url,
        region_name=REGION,
        aws_access_key_id=S3_ACCESS_KEY,
        aws_secret_access_key=S3_SECRET_KEY,
    )
    phrases = _upload(s3)
    command = ["run", SOURCE, DESTINATION, "--requests-per-second", "20", "--poll-seconds", "1", "--json"]
    console.print(f"[bold]bulk-ocr {' '.join(command[:3])}[/]   (recognition takes seconds a page)")
    run = subprocess.run(
        [sys.executable, "-m", "flows.cli", *command],
        env=stack.process_environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if not run.stdout:
        return run.returncode
    report = json.loads(run.stdout)
    _show_results(s3, phrases)
    console.print(
        f"\n{report['documents']} documents: {report['done']} done, {report['failed']} failed, "
        f"{report['skipped']} were done before. {report['pages_sent']} pages sent in {report['requests']} requests, "
        f"{report['seconds']:.0f} s."
    )
    if stay:
        console.print(f"Run history:  [bold]{stack.prefect_url}/runs[/]")
        console.print("The stack is up until you press Ctrl-C. To use it from another shell:\n")
        for name, value in stack.environment().items():
            console.print(f"  export {name}={value}", markup=False)
        while True:
            stack.check()
            time.sleep(1)  # wait for a signal, and check every second whether a service has died
    console.print("Stopped the stack; its data is kept. If you run the demo again, nothing is sent twice.")
    console.print("To use the stack from your own shell: python -m deployments.local")
    return run.returncode


def _upload(s3: "S3Client") -> dict[str, str]:
    """Upload the samples to the bucket. Returns a phrase that each document contains, by key."""
    s3.create_bucket(Bucket=BUCKET)
    phrases: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        samples = make_samples(Path(folder))
        for sample in samples:
            key = f"scans/{sample.path.relative_to(folder).as_posix()}"
            s3.upload_file(str(sample.path), BUCKET, key)
            phrases[key] = sample.phrase
    pages = sum(sample.pages for sample in samples)
    console.print(f"Put {len(samples)} documents of {pages} pages into [bold]{SOURCE}[/].")
    return phrases


def _show_results(s3: "S3Client", phrases: dict[str, str]) -> None:
    table = Table("result", "pages", "words", "as it should read", box=None, header_style="bold", pad_edge=False)
    excerpt, longest = "", 0
    for key, phrase in phrases.items():
        result_key = f"ocr/{key.removeprefix('scans/')}.ocr.json"
        try:
            result: dict[str, Any] = json.loads(s3.get_object(Bucket=BUCKET, Key=result_key)["Body"].read())
        except s3.exceptions.NoSuchKey:
            table.add_row(Text(f"s3://{BUCKET}/{result_key}"), "-", "-", "missing")
            continue
        pages = result["pages"]
        words = sum(len(page["words"]) for page in pages)
        found = phrase.lower() in " ".join(pages[0]["text"].lower().split())
        table.add_row(Text(f"s3://{BUCKET}/{result_key}"), str(len(pages)), str(words), "yes" if found else "no")
        if len(pages) > longest:
            longest, excerpt = len(pages), pages[-1]["text"]
            excerpt_key, excerpt_page = key, len(pages)
    console.print()
    console.print(table)
    if excerpt:
        console.print(f"\nRecognised on page {excerpt_page} of [bold]{Text(excerpt_key)}[/]:")
        lines = excerpt.splitlines()[:_EXCERPT_LINES]
        console.print(textwrap.indent("\n".join([*lines, "…"]), "  │ "), markup=False)


if __name__ == "__main__":
    sys.exit(app(result_action="return_value"))
