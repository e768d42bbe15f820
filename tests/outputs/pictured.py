"""Documents with pictures of words, in several formats, and results that say where the words are."""

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw

from tests.outputs.result_samples import HEIGHT, WIDTH, Lines, placed


def page(lines: Lines) -> Image.Image:
    """A page with a black box for each word, where a result of these lines says that it is."""
    picture = Image.new("L", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(picture)
    for line in placed(lines):
        for _, _, box in line:
            pen.rectangle((*box[0], *box[2]), fill="black")
    return picture


def document(pages: Sequence[Lines], form: str) -> bytes:
    """A document of that format; of those for one picture, the first page."""
    pictures = [page(lines) for lines in pages]
    out = io.BytesIO()
    if form in ("PDF", "TIFF"):
        pictures[0].save(out, form, save_all=True, append_images=pictures[1:])
    else:
        pictures[0].save(out, form)
    return out.getvalue()
