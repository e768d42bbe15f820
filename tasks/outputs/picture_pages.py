"""Writes pictures as pages of a PDF without changing their pixels."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import img2pdf
import pillow_heif
from PIL import Image, ImageOps

from tasks.documents.files import tiff
from tasks.documents.files.formats import BY_NAME, HEIC, TIFF

log = logging.getLogger(__name__)

_MOST_PIXELS, _MOST_FRAMES = 64_000_000, 20  # in one of the PDFs, each of which is built in memory
_A4_LENGTH = 842.0  # points
_POINTS = 72
_USUAL_DPI = range(50, 2401)  # plausible for a scanner
_LEAST_SIDE, _MOST_SIDE = 3.0, 14_400.0  # points: the page sizes that PDF readers accept
_SIMPLE = {"1", "L", "RGB", "CMYK"}


def write_picture_pages(file: Path, format_name: str, folder: Path) -> list[Path]:
    """Write the pictures in a file as pages of several PDFs: JPEGs and fax pages as they are, others losslessly.

    Args:
        file: the file with one or more pictures.
        format_name: the name of its format.
        folder: the folder for the PDFs.

    Returns:
        The PDFs, in order.

    Raises:
        ValueError, OSError: a picture cannot be decoded.
    """
    Image.MAX_IMAGE_PIXELS = None  # the number of pixels was checked before the document was sent
    files: list[Path] = []
    waiting: list[bytes] = []
    pixels = 0
    for picture, size in _pictures(file, format_name, folder):
        if waiting and (pixels + size > _MOST_PIXELS or len(waiting) == _MOST_FRAMES):
            files.append(_written(waiting, folder / f"pages-{len(files) + 1}.pdf"))
            waiting, pixels = [], 0
        waiting.append(picture)
        pixels += size
    if waiting:
        files.append(_written(waiting, folder / f"pages-{len(files) + 1}.pdf"))
    return files


def _pictures(file: Path, format_name: str, folder: Path) -> Iterator[tuple[bytes, int]]:
    form = BY_NAME[format_name]
    if form is HEIC:
        for picture in pillow_heif.open_heif(file):
            image = picture.to_pillow()
            yield _lossless(image), image.width * image.height
        return
    if form is not TIFF:
        yield _packed(file)
        return
    with file.open("rb") as content:
        frames = sum(1 for _ in tiff.frames(content))
    single = folder / "frame.tif"
    for number in range(1, frames + 1):
        tiff.write_frames(file, number, number, single)
        yield _packed(single)


def _packed(file: Path) -> tuple[bytes, int]:
    """Return a picture unchanged if a PDF can contain it, otherwise as a PNG, and its number of pixels."""
    body = file.read_bytes()
    with Image.open(io.BytesIO(body)) as image:
        pixels = image.width * image.height
        try:
            _convert([body])
            return body, pixels
        except Exception as error:  # noqa: BLE001  # the library raises various errors for unsupported pictures
            log.debug("a picture is stored as PNG: %s", error)
            return _lossless(image), pixels


def _lossless(image: Image.Image) -> bytes:
    if image.mode not in _SIMPLE:
        image = _on_white(image)
    out = io.BytesIO()
    upright = ImageOps.exif_transpose(image)
    upright = upright.convert("RGB") if upright.mode == "CMYK" else upright
    dpi = image.info.get("dpi")
    upright.save(out, "PNG", **({"dpi": dpi} if isinstance(dpi, tuple) else {}))
    return out.getvalue()


def _on_white(image: Image.Image) -> Image.Image:
    """Return a picture without transparency and with 8 bits per channel, as a viewer would show it."""
    if image.mode.startswith(("I", "F")):
        low, high = cast("tuple[float, float]", image.getextrema())  # these modes have one channel
        scale = 255 / (high - low) if high > low else 1.0
        return image.convert("F").point(lambda value: (value - low) * scale).convert("L")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _written(pictures: list[bytes], to: Path) -> Path:
    to.write_bytes(_convert(pictures))
    return to


def _convert(pictures: list[bytes]) -> bytes:
    body = img2pdf.convert(
        pictures, layout_fun=_layout, rotation=img2pdf.Rotation.ifvalid, engine=img2pdf.Engine.pikepdf, nodate=True
    )
    assert isinstance(body, bytes)
    return body


def _layout(width: int, height: int, dpi: tuple[float, float]) -> tuple[float, float, float, float]:
    """Return the sizes of a page and of the picture on it in points: the scanned size, if its resolution is known."""
    known = all(round(value) in _USUAL_DPI for value in dpi) and dpi != _UNTOLD_DPI
    longest = max(width, height)
    across, down = dpi if known else (longest * _POINTS / _A4_LENGTH,) * 2
    size = width * _POINTS / across, height * _POINTS / down
    if max(size) > _MOST_SIDE or min(size) < _LEAST_SIDE:
        scale = min(_MOST_SIDE / max(size), max(1.0, _LEAST_SIDE / min(size)))
        size = size[0] * scale, size[1] * scale
    return *size, *size


_UNTOLD_DPI = (img2pdf.default_dpi, img2pdf.default_dpi)
