"""Searchable PDFs of long results, beside OCRmyPDF's own text renderer: pages a second of
processor time, and memory.

    python -m tests.bench.searchable [--ocrmypdf PYTHON]

PYTHON is an interpreter that has `ocrmypdf>=17.13` (which is not a dependency of this project). Not a test: the figures
are the machine's.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pikepdf

from tasks.outputs import layering
from tests.outputs.written_pages import ENGLISH, HEIGHT, KOREAN, WIDTH, write_result, written_page

_PAGES = (10, 300, 1000)
_LINES = 45
_NO_TEXT = json.dumps({"usable": [], "invisible": []})
_OCRMYPDF = """
import json, resource, sys, time
from pathlib import Path
import ocrmypdf.font, ocrmypdf.models.ocr_element as m
from ocrmypdf.font import MultiFontManager
from ocrmypdf.fpdf_renderer import Fpdf2MultiPageRenderer
result, to = sys.argv[1:]
def element(page):
    words = []
    for word in page["words"]:
        xs = [v["x"] * 1240 for v in word["bounding_box"]["vertices"]]
        ys = [v["y"] * 1754 for v in word["bounding_box"]["vertices"]]
        box = m.BoundingBox(min(xs), min(ys), max(xs), max(ys))
        words.append(m.OcrElement(ocr_class="ocrx_word", bbox=box, text=word["text"]))
    lines, place = [], 0
    for line in page["text"].split("\\n"):
        some = words[place : place + len(line.split())]
        place += len(some)
        box = m.BoundingBox(
            min(w.bbox.left for w in some), min(w.bbox.top for w in some),
            max(w.bbox.right for w in some), max(w.bbox.bottom for w in some),
        )
        lines.append(m.OcrElement(ocr_class="ocr_line", bbox=box, children=some))
    whole = m.BoundingBox(0, 0, 1240, 1754)
    return m.OcrElement(ocr_class="ocr_page", bbox=whole, children=[
        m.OcrElement(ocr_class="ocr_par", bbox=whole, children=lines)])
pages = [(n, element(p), 150) for n, p in enumerate(json.loads(Path(result).read_text())["pages"])]
began = time.process_time()
Fpdf2MultiPageRenderer(pages, MultiFontManager()).render(Path(to))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
print(json.dumps({"seconds": time.process_time() - began, "megabytes": peak}))
"""


def _ours(result: Path, scan: Path, to: Path) -> tuple[float, int]:
    """Processor seconds and peak memory in MB of the process that writes the PDF, its start included."""
    command = [sys.executable, "-P", layering.__file__, "layers", "4096", result, to, "", _NO_TEXT, scan]
    program = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss >> 10)"
    )
    seconds, megabytes = subprocess.check_output([sys.executable, "-c", program, *map(str, command)]).split()
    return float(seconds), int(megabytes)


def _theirs(python: str, result: Path, to: Path) -> tuple[float, int]:
    out = subprocess.check_output([python, "-c", _OCRMYPDF, str(result), str(to)], stderr=subprocess.DEVNULL)
    found = json.loads(out)
    return found["seconds"], found["megabytes"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ocrmypdf", help="an interpreter that has ocrmypdf")
    parser.add_argument("--pages", type=int, nargs="*", default=_PAGES)
    given = parser.parse_args()
    print("| pages | script | words | pages/s | MB | KB a page | OCRmyPDF's renderer, pages/s | MB | KB a page |")
    print("|--:|---|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    for script, words in (("English", ENGLISH), ("Korean", KOREAN)):
        for pages in given.pages:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                made = [written_page(number, words, lines=_LINES) for number in range(1, pages + 1)]
                result, scan, to = write_result(made, folder / "result.json"), folder / "scan.pdf", folder / "out.pdf"
                with pikepdf.Pdf.new() as pdf:
                    for _ in range(pages):
                        pdf.add_blank_page(page_size=(WIDTH, HEIGHT))
                    pdf.save(scan)
                seconds, megabytes = _ours(result, scan, to)
                row = f"| {pages} | {script} | {sum(len(page.words) for page in made):,} | {pages / seconds:.0f} "
                row += f"| {megabytes} | {to.stat().st_size / pages / 1024:.1f} "
                if given.ocrmypdf:
                    other, peak = _theirs(given.ocrmypdf, result, folder / "other.pdf")
                    size = (folder / "other.pdf").stat().st_size / pages / 1024
                    row += f"| {pages / other:.1f} | {peak} | {size:.1f} |"
                else:
                    row += "| | | |"
                print(row, flush=True)


if __name__ == "__main__":
    main()
