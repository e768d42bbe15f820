"""Small documents for tests, made in memory; the same call gives the same bytes."""

import io
from collections.abc import Sequence

import pikepdf
from PIL import Image, ImageDraw, ImageFont

_A4 = (595, 842)


def text_pdf(texts: Sequence[str]) -> bytes:
    """A PDF with a real text layer, one page a text; line breaks in a text are kept."""
    out = io.BytesIO()
    _pdf(texts).save(out, deterministic_id=True)
    return out.getvalue()


def encrypted_pdf(password: str = "secret") -> bytes:
    """A PDF of one page that cannot be opened without its password."""
    out = io.BytesIO()
    # RC4 and a fixed identifier: newer ciphers draw random numbers, and the bytes would differ every time.
    protection = pikepdf.Encryption(owner=password, user=password, R=3, aes=False, metadata=False)
    _pdf(["For your eyes only."]).save(out, static_id=True, encryption=protection)
    return out.getvalue()


def truncated_pdf() -> bytes:
    """A PDF cut off in its middle, as by a broken upload: it begins like one and cannot be repaired."""
    out = io.BytesIO()
    # What leads to the pages is packed into the part cut off; unpacked, repair finds it in what is left.
    _pdf(["The end is missing."]).save(out, deterministic_id=True, object_stream_mode=pikepdf.ObjectStreamMode.generate)
    return out.getvalue()[: len(out.getvalue()) // 2]


def png(text: str) -> bytes:
    """An image with the text in it, as PNG."""
    return _encode(_page(text), "PNG")


def jpeg(text: str) -> bytes:
    """An image with the text in it, as JPEG."""
    return _encode(_page(text), "JPEG")


def tiff(texts: Sequence[str]) -> bytes:
    """A TIFF with one frame a text."""
    first, *rest = [_page(text).convert("1") for text in texts]
    out = io.BytesIO()
    first.save(out, "TIFF", save_all=True, append_images=rest, compression="group4")
    return out.getvalue()


def _pdf(texts: Sequence[str]) -> pikepdf.Pdf:
    pdf = pikepdf.new()
    font = pdf.make_indirect(
        pikepdf.Dictionary(
            Type=pikepdf.Name.Font,
            Subtype=pikepdf.Name.Type1,
            BaseFont=pikepdf.Name.Helvetica,
            Encoding=pikepdf.Name.WinAnsiEncoding,
        )
    )
    for text in texts:
        page = pdf.add_blank_page(page_size=_A4)
        page.Resources = pikepdf.Dictionary(Font=pikepdf.Dictionary(F1=font))
        shown = [b"<" + line.encode("cp1252").hex().encode() + b"> Tj T*" for line in text.split("\n")]
        page.Contents = pdf.make_stream(b"BT /F1 12 Tf 15 TL 50 780 Td " + b" ".join(shown) + b" ET")
    return pdf


def _page(text: str) -> Image.Image:
    image = Image.new("L", (800, 300), 255)
    ImageDraw.Draw(image).multiline_text((30, 30), text, fill=0, font=ImageFont.load_default(28))
    return image


def _encode(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()
