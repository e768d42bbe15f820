"""Generates sample documents, most of them like scans. The same seed always produces the same bytes.

This matters because the ETag of an object decides whether a document is new. Therefore the files contain no dates and
no random identifiers, and each document has its own random generator.
"""

import io
import re
import textwrap
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pikepdf
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SEED = 2024

_DPI = 130
_A4_INCHES = (8.27, 11.69)
_MARGIN = 110
_BODY = 27
_WRAP = 60
_JPEG_QUALITY = 70
_WRITTEN = datetime(2024, 4, 3, 9)

Line = tuple[int, str]
"""A size in pixels and the text to set in it."""


@dataclass(frozen=True)
class Sample:
    """A generated document.

    Attributes:
        path: its path.
        pages: its number of pages.
        phrase: words in large type on its first page. Recognition may lose the spaces between words, so
            compare without spaces and case.
    """

    path: Path
    pages: int
    phrase: str


def make_samples(folder: Path, seed: int = SEED) -> list[Sample]:
    """Write the sample documents into a folder, replacing those of an earlier call.

    Args:
        folder: the folder; created if missing.
        seed: the seed for skew, noise and the figures in the texts.

    Returns:
        The documents in the order of their paths.
    """
    makers: dict[str, tuple[str, Callable[[np.random.Generator], tuple[bytes, int]]]] = {
        "fax.tif": ("Order confirmation", _fax),
        "expenses.xlsx": ("Travel expenses", _expenses),
        "invoices/invoice.pdf": ("Harbour Street Stationery", _invoice),
        "invoices/receipt.png": ("Corner Bakery", _receipt),
        "letters/Letter to Zoë.pdf": ("Northgate Library", _letter),
        "minutes/회의록.docx": ("회의록", _minutes),
        "photo-of-contract.jpg": ("Rental agreement", _contract),
        "reports/2024/report.pdf": ("Annual report on river quality", _report),
    }
    samples = []
    for number, (name, (phrase, make)) in enumerate(makers.items()):
        content, pages = make(np.random.default_rng([seed, number]))
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        samples.append(Sample(path, pages, phrase))
    return samples


def _invoice(random: np.random.Generator) -> tuple[bytes, int]:
    goods = ("Copy paper, box of five", "Blue ink cartridges", "Desk lamp with clamp", "Wall calendar")
    amounts = [int(amount) for amount in random.integers(12, 95, len(goods))]
    rows = [
        (_BODY, f"{position}. {item}: {amount}.00 EUR")
        for position, (item, amount) in enumerate(zip(goods, amounts, strict=True), 1)
    ]
    page = [
        (46, "Harbour Street Stationery"),
        (24, "14 Harbour Street, Port Ellis"),
        (34, f"Invoice number {int(random.integers(1000, 9999))}"),
        *_paragraph("Bill to the accounts office of the Port Ellis Town Museum. Delivered on 3 April 2024."),
        *rows,
        (32, f"Total amount due: {sum(amounts)}.00 EUR"),
        *_paragraph("""
            Please pay within thirty days by bank transfer and name the invoice number. Goods remain our
            property until they are paid in full. Questions about this invoice are answered on weekdays
            between nine and four.
        """),
        *_paragraph("This is page 1 of 1. Thank you for your order."),
    ]
    return _scan_pdf([page], random), 1


_LETTER = (
    """
    Dear Zoe, thank you for offering your collection of local maps to our reading room. We have looked at
    the list you sent in January, and we would be glad to take all of the sheets that show the old harbour,
    the two mills and the railway line before it was closed. Most of them are not held by any other library
    in the county.
    """,
    """
    Before the maps can be shown they must be cleaned, flattened and photographed. Our workshop can treat
    about ten sheets a week, so the work should be finished before the summer. You keep the right to borrow
    any sheet for an exhibition, provided that we know of it four weeks ahead and that the room is kept dry.
    """,
    """
    Please sign the enclosed agreement and return one copy in the envelope provided. Our driver can collect
    the maps on any Thursday morning; a telephone call the day before is enough. We plan a small evening
    event in October to thank our donors, and we hope very much that you will be there as our guest.
    """,
)


def _letter(random: np.random.Generator) -> tuple[bytes, int]:
    pages = [
        [
            (46, "Northgate Library") if number == 1 else (34, "Northgate Library, continued"),
            *_paragraph("Map collection and reading room"),
            *_paragraph(body),
            *_paragraph(f"You are reading page {number} of {len(_LETTER)} of this letter."),
        ]
        for number, body in enumerate(_LETTER, 1)
    ]
    pages[-1] += [(_BODY, "With kind regards,"), (32, "Margaret Holloway"), (_BODY, "Head of collections")]
    return _scan_pdf(pages, random), len(pages)


_CHAPTERS = (
    ("Summary", "The river was cleaner this year than in any year on record. Oxygen rose and nitrate fell."),
    ("Where we measured", "Samples were taken at bridges, below both mills and at the river's mouth."),
    ("How we measured", "Water was drawn half a metre below the surface and was cooled at once."),
    ("Temperature", "A warm August pushed the water above twenty degrees for nine days in a row."),
    ("Oxygen", "Oxygen stayed above the limit everywhere. The weir at Coldbrook helps to mix the water."),
    ("Nitrate", "Fields along the upper river still add nitrate after heavy rain in spring."),
    ("Phosphate", "The new treatment plant removes most phosphate. Its second stage opened in March."),
    ("Metals", "Zinc was found below the old foundry, in amounts that are no danger to bathers."),
    ("Fish", "Brown trout were counted at night with lamps. Young fish are back above the second weir."),
    ("Plants", "Water crowfoot has spread along the gravel banks, while algae have become less common."),
    ("Costs", "The programme kept within its budget, because volunteers took part of the samples."),
    ("Next steps", "We propose two more stations, a fish ladder and a wider strip without plough."),
)

_REMARKS = (
    """
    Readers who want to compare the figures should mind that the stations differ in depth and current, so that
    only values of the same station belong together.
    """,
    """
    After the storm of the second of May no samples could be taken for ten days, because the banks were under
    water. The missing values were left out and not estimated.
    """,
    """
    A comparison with the neighbouring county is planned for next year. It needs the same bottles, the same
    hours of the day and the same laboratory on both sides.
    """,
)


def _report(random: np.random.Generator) -> tuple[bytes, int]:
    pages: list[list[Line]] = []
    for number, (title, finding) in enumerate(_CHAPTERS, 1):
        taken, better, stations = (int(random.integers(*span)) for span in ((60, 99), (20, 59), (3, 9)))
        cover: list[Line] = [(46, "Annual report on river quality")] if number == 1 else []
        pages.append(
            [
                *cover,
                (36, f"{number}. {title}"),
                *_paragraph(finding),
                *_paragraph(f"""
                    Behind this chapter stand {taken} samples from {stations} stations, and {better} of them
                    were better than in the year before. Single values can be found in the tables of the
                    annex; they were checked by two people who did not know each other's results.
                """),
                *_paragraph(_REMARKS[number % len(_REMARKS)]),
                *_paragraph(f"This is page {number} of {len(_CHAPTERS)} of the report."),
            ]
        )
    return _scan_pdf(pages, random), len(pages)


_FAX = (
    """
    We confirm your order of forty oak boards and twelve metres of skirting. The boards are planed on both
    sides and will be cut to the lengths in your drawing. The price is the one of our offer from last week,
    delivery included. Our lorry needs a yard that is at least four metres wide.
    """,
    """
    Delivery is planned for the second week of May. The driver calls one hour before he arrives. Please
    count the bundles before you sign, and write down any damage on the delivery note, because later
    complaints cannot be accepted by our insurance. Keep the boards flat and dry until they are laid.
    """,
    """
    Terms of payment: one half on delivery and one half within three weeks. Boards that were cut to length
    cannot be returned. If you would like to change the order, send us a fax before Friday noon. After that
    the saw is set up and the wood is taken from the kiln.
    """,
)


def _fax(random: np.random.Generator) -> tuple[bytes, int]:
    frames = []
    for number, body in enumerate(_FAX, 1):
        page = [
            (22, "FROM: MILLER TIMBER LTD    TO: CITY JOINERY"),
            (46, "Order confirmation") if number == 1 else (34, "Order confirmation, continued"),
            *_paragraph(body),
            *_paragraph(f"This fax has {len(_FAX)} pages. This is page {number}."),
        ]
        grey = np.asarray(_scan(_set(page, _a4()), random, grain=20.0))
        frames.append(Image.fromarray(grey > 150).convert("1"))
    out = io.BytesIO()
    frames[0].save(out, "TIFF", save_all=True, append_images=frames[1:], compression="group4", dpi=(_DPI, _DPI))
    return out.getvalue(), len(frames)


def _receipt(random: np.random.Generator) -> tuple[bytes, int]:
    names = ("Rye bread", "Cheese roll", "Apple cake", "Coffee")
    prices = [int(price) for price in random.integers(120, 480, len(names))]
    goods = [(26, f"{name}  {price / 100:.2f}") for name, price in zip(names, prices, strict=True)]
    page = [
        (46, "Corner Bakery"),
        (24, "Mill Lane 5, Coldbrook"),
        (24, "Receipt 0417 of 12 March 2024"),
        *goods,
        (34, f"Total {sum(prices) / 100:.2f} EUR"),
        *_paragraph(
            """
            Paid in cash. Prices include tax. Bread can be exchanged on the same day with this receipt. Our
            shop is open every morning from six, on Sundays from eight. This is page 1 of 1. Thank you for
            your visit and see you soon.
            """,
            wrap=34,
        ),
    ]
    strip = _scan(_set(page, Image.new("L", (620, 950), 255), margin=60), random)
    out = io.BytesIO()
    strip.save(out, "PNG", optimize=True)
    return out.getvalue(), 1


def _contract(random: np.random.Generator) -> tuple[bytes, int]:
    page = [
        (46, "Rental agreement"),
        *_paragraph("between Anna Berger, owner, and Tom Clarke, tenant"),
        *_paragraph("""
            The owner lets the workshop in the yard of 8 Mill Lane to the tenant from the first of June. The
            rent is 350 EUR a month and is paid in advance by the third working day.
        """),
        *_paragraph("""
            The tenant may put up shelves and machines but changes nothing in the walls. Noise is kept low
            after eight in the evening. Either side may end this agreement with three months' notice in
            writing.
        """),
        *_paragraph("This agreement has one page, and this is page 1."),
        (_BODY, "Signed in Coldbrook on 20 May 2024"),
    ]
    sheet = np.asarray(_scan(_set(page, _a4()), random), dtype=np.float64)
    height, width = sheet.shape
    # Light falls from the upper left, and the sheet lies on a wooden table.
    light = 1.0 - 0.11 * (np.linspace(0, 1, width)[None, :] + np.linspace(0, 1, height)[:, None])
    colour = (sheet * light)[:, :, None] * np.array([1.0, 0.97, 0.90])
    wood, edge = (112, 84, 60), 80
    table = Image.new("RGB", (width + 2 * edge, height + 2 * edge), wood)
    table.paste(Image.fromarray(colour.clip(0, 255).astype(np.uint8), "RGB"), (edge, edge))
    # Seen from slightly below: the far edge of the sheet is a little shorter.
    corners = (-26, 0, 0, table.height, table.width, table.height, table.width + 26, 0)
    shot = table.transform(table.size, Image.Transform.QUAD, corners, Image.Resampling.BICUBIC, fillcolor=wood)
    out = io.BytesIO()
    shot.save(out, "JPEG", quality=_JPEG_QUALITY, dpi=(_DPI, _DPI))
    return out.getvalue(), 1


_MINUTES = (
    "회의록",
    "항만 지도 수집품 인수에 관한 회의",
    "참석자는 도서관장, 자료실 담당자, 보존 작업실 담당자이다.",
    "옛 항구와 두 제분소, 폐선되기 전의 철도가 나오는 지도를 모두 인수하기로 하였다.",
    "지도는 공개하기 전에 세척하고 펴서 촬영한다. 작업실은 일주일에 약 열 장을 처리할 수 있다.",
)


def _minutes(random: np.random.Generator) -> tuple[bytes, int]:
    """Generate a page of Korean text as a Word document."""
    import docx

    document = docx.Document()
    document.add_heading(_MINUTES[0])
    for paragraph in _MINUTES[1:]:
        document.add_paragraph(paragraph)
    document.add_paragraph(f"인수할 지도는 모두 {int(random.integers(100, 999))}장이다.")
    document.core_properties.created = document.core_properties.modified = _WRITTEN
    out = io.BytesIO()
    document.save(out)
    return _undated(out), 1


def _expenses(random: np.random.Generator) -> tuple[bytes, int]:
    import openpyxl

    book = openpyxl.Workbook()
    book.properties.created = book.properties.modified = _WRITTEN
    sheet = book.active
    sheet.title = "March"
    sheet.append(["Travel expenses", "March 2024"])
    amounts = [int(amount) for amount in random.integers(15, 240, 4)]
    for purpose, amount in zip(("Train to Coldbrook", "Hotel, two nights", "Meals", "Taxi"), amounts, strict=True):
        sheet.append([purpose, amount])
    sheet.append(["Total", sum(amounts)])
    out = io.BytesIO()
    book.save(out)
    return _undated(out), 1


def _undated(office: io.BytesIO) -> bytes:
    """Remove the times at which its parts were written from an office document."""
    out = io.BytesIO()
    with zipfile.ZipFile(office) as original, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as written:
        for name in original.namelist():
            part = original.read(name)
            if name == "docProps/core.xml":  # openpyxl adds the current time on saving
                part = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>2024-04-03T09:00:00Z", part)
            written.writestr(zipfile.ZipInfo(name), part, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _paragraph(text: str, wrap: int = _WRAP) -> list[Line]:
    return [(_BODY, line) for line in textwrap.wrap(" ".join(text.split()), wrap)] + [(14, "")]


def _a4() -> Image.Image:
    width, height = (round(inches * _DPI) for inches in _A4_INCHES)
    return Image.new("L", (width, height), 255)


def _set(lines: Sequence[Line], paper: Image.Image, margin: int = _MARGIN) -> Image.Image:
    """Draw the lines below each other, in Pillow's built-in font."""
    draw = ImageDraw.Draw(paper)
    top = float(margin)
    for size, text in lines:
        draw.text((margin, top), text, fill=25, font=ImageFont.load_default(size))
        top += size * 1.55
    return paper


def _scan(page: Image.Image, random: np.random.Generator, grain: float = 7.0) -> Image.Image:
    """Make a clean page look scanned: skewed, slightly blurred, on grey paper, with noise."""
    angle = float(random.uniform(0.3, 1.3)) * float(random.choice([-1.0, 1.0]))
    skewed = page.rotate(angle, Image.Resampling.BICUBIC, fillcolor=255)
    blurred = np.asarray(skewed.filter(ImageFilter.GaussianBlur(0.7)), dtype=np.float64)
    shade = np.linspace(float(random.uniform(0.90, 0.96)), 0.96, blurred.shape[1])[None, :]
    noise = random.normal(0.0, grain, blurred.shape)
    return Image.fromarray((blurred * shade + noise).clip(0, 255).astype(np.uint8), "L")


def _scan_pdf(pages: Sequence[Sequence[Line]], random: np.random.Generator) -> bytes:
    """Return a PDF as a scanner would write it: each page is one JPEG image, without text."""
    pdf = pikepdf.new()
    for lines in pages:
        image = _scan(_set(lines, _a4()), random)
        jpeg = io.BytesIO()
        image.save(jpeg, "JPEG", quality=_JPEG_QUALITY)
        picture = pdf.make_stream(
            jpeg.getvalue(),
            Type=pikepdf.Name.XObject,
            Subtype=pikepdf.Name.Image,
            Width=image.width,
            Height=image.height,
            ColorSpace=pikepdf.Name.DeviceGray,
            BitsPerComponent=8,
            Filter=pikepdf.Name.DCTDecode,
        )
        width, height = (inches * 72 for inches in _A4_INCHES)
        page = pdf.add_blank_page(page_size=(width, height))
        page.Resources = pikepdf.Dictionary(XObject=pikepdf.Dictionary(Scan=picture))
        page.Contents = pdf.make_stream(f"q {width:.2f} 0 0 {height:.2f} 0 0 cm /Scan Do Q".encode())
    out = io.BytesIO()
    pdf.save(out, deterministic_id=True)
    return out.getvalue()
