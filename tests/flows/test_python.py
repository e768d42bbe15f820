"""The examples of docs/python.md, one after another in a process of their own."""

import re
import subprocess
import sys
from pathlib import Path

from tests import sample_documents as documents
from tests.flows.conftest import Place
from tests.waiting import PATIENCE

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_the_examples_do_what_they_say(place: Place, environment: dict[str, str]) -> None:
    place.put({"2024/a.pdf": documents.text_pdf(["python 1", "python 2"]), "b.pdf": documents.text_pdf(["python 3"])})
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 5
    program = (
        "\n".join(examples).replace("s3://bucket/scans", place.source).replace("s3://bucket/ocr", place.destination)
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "2 3 0.0045",
        "1 0 2",
        "1",
        "2 0 0",
        *(f"{document} {place.destination}/{document}.ocr.json" for document in ("2024/a.pdf", "b.pdf")),
    ]
    assert "2024/a.pdf.ocr.txt" in place.results()
