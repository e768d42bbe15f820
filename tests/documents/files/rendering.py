"""What two independent readers show of a PDF: pdfium and poppler."""

import re
import shutil
import subprocess
from pathlib import Path

import pypdfium2

_DPI = 60
_POINTS = 72


def drawn_by_pdfium(file: Path) -> list[bytes]:
    """Each page as pdfium draws it, with its form: width, height and grey pixels."""
    found = []
    with pypdfium2.PdfDocument(file) as pdf:
        pdf.init_forms()
        for page in pdf:
            bitmap = page.render(scale=_DPI / _POINTS, grayscale=True)
            found.append(f"{bitmap.width} {bitmap.height} ".encode() + bytes(bitmap.buffer))
            page.close()
    return found


def drawn_by_poppler(file: Path) -> list[bytes]:
    """Each page as poppler draws it: width, height and grey pixels."""
    program = shutil.which("pdftoppm")
    assert program, "pdftoppm is missing: install poppler-utils (Debian) or poppler (Homebrew)"
    ended = subprocess.run(
        [program, "-gray", "-r", str(_DPI), str(file)], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    found, rest = [], ended.stdout
    while rest:
        header = re.match(rb"P5\n(\d+) (\d+)\n255\n", rest)
        assert header, rest[:20]
        end = header.end() + int(header[1]) * int(header[2])
        found.append(header[1] + b" " + header[2] + b" " + rest[header.end() : end])
        rest = rest[end:]
    return found


def is_blank(page: bytes) -> bool:
    """Whether nothing is drawn on a page: all its pixels are alike."""
    return len(set(page.split(b" ", 2)[2])) == 1
