"""PDFs of one page of every kind that decides whether its text can be used, and which of them hold usable text."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pikepdf
from pikepdf import Array, Dictionary, Name, Pdf
from PIL import Image, ImageDraw, ImageFont

LINES = [
    "The quick brown fox jumps over the lazy dog, and the dog sleeps on.",
    "Invoice No. 2026-11-26, total amount: $1,234.56 within thirty days.",
    "All human beings are born free and equal in dignity and in rights.",
    "They are endowed with reason and conscience and should act towards",
    "one another in a spirit of brotherhood. Everyone has the right to life.",
]
KOREAN = ["모든 국민은 인간으로서의 존엄과 가치를 가지며", "행복을 추구할 권리를 가진다 제10조 2026년"]
CHINESE = ["中华人民共和国 一切权力属于人民", "第一条 金额合计 1234 元"]
WIDTH, HEIGHT = 595, 842


@dataclass(frozen=True)
class Kind:
    """A document, and whether its page is usable: as it is, and where layers of invisible text are trusted."""

    body: bytes
    usable: bool
    trusted: bool
    text: str = ""


def _saved(pdf: Pdf) -> bytes:
    out = io.BytesIO()
    pdf.save(out, deterministic_id=True)
    return out.getvalue()


def _page(
    content: bytes,
    resources: Mapping[str, Any] | None = None,
    change: Callable[[Pdf, pikepdf.Page], None] | None = None,
) -> bytes:
    with Pdf.new() as pdf:
        page = pdf.add_blank_page(page_size=(WIDTH, HEIGHT))
        helvetica = Dictionary(
            Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica, Encoding=Name.WinAnsiEncoding
        )
        page.obj.Resources = Dictionary(Font=Dictionary(F1=helvetica))
        for key, value in (resources or {}).items():
            made = value(pdf) if callable(value) else value
            group, _, name = key.partition("/")
            page.obj.Resources[f"/{group}"] = page.obj.Resources.get(f"/{group}", Dictionary())
            page.obj.Resources[f"/{group}"][f"/{name}"] = made
        page.obj.Contents = pdf.make_stream(content)
        if change:
            change(pdf, page)
        return _saved(pdf)


def shown(lines: list[str], before: str = "", top: int = 780, size: int = 14, font: str = "F1") -> bytes:
    """Operators that show lines in Helvetica."""
    parts = [f"BT /{font} {size} Tf {before} {size * 1.5} TL 50 {top} Td"]
    parts += [f"({line}) Tj T*" for line in lines]
    return "\n".join((*parts, "ET")).encode("latin-1")


def _font() -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(24)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _scan(lines: list[str], size: tuple[int, int] = (WIDTH * 2, HEIGHT * 2)) -> Callable[[Pdf], pikepdf.Object]:
    def make(pdf: Pdf) -> pikepdf.Object:
        image = Image.new("L", size, 255)
        draw = ImageDraw.Draw(image)
        for number, line in enumerate(lines * 4):
            draw.text((60, 60 + 60 * number), line, fill=0, font=_font())
        return pdf.make_stream(
            image.tobytes(), Type=Name.XObject, Subtype=Name.Image, Width=size[0], Height=size[1],
            ColorSpace=Name.DeviceGray, BitsPerComponent=8,
        )  # fmt: skip

    return make


def _font_program() -> bytes:
    program = _font().path
    assert isinstance(program, io.BytesIO)
    return program.getvalue()


def embedded(lines: list[str], unicode_of: Callable[[str], str | None]) -> bytes:
    """Lines in an embedded font whose glyphs are Latin letters; what they stand for, the map tells."""
    characters = sorted({character for line in lines for character in line})
    codes = {character: number for number, character in enumerate(characters, 20)}

    def font(pdf: Pdf) -> pikepdf.Object:
        mapped = [(codes[c], unicode_of(c)) for c in characters]
        entries = [f"<{code:04x}> <{to.encode('utf-16-be').hex()}>" for code, to in mapped if to is not None]
        cmap = "\n".join(
            [
                "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def",
                "1 begincodespacerange <0000> <ffff> endcodespacerange",
                *(f"1 beginbfchar {entry} endbfchar" for entry in entries),
                "endcmap end end",
            ]
        )
        descriptor = Dictionary(
            Type=Name.FontDescriptor, FontName=Name("/ABCDEF+Test"), Flags=4, FontBBox=Array([0, -200, 1000, 900]),
            ItalicAngle=0, Ascent=900, Descent=-200, CapHeight=700, StemV=80,
            FontFile2=pdf.make_stream(_font_program()),
        )  # fmt: skip
        descendant = Dictionary(
            Type=Name.Font, Subtype=Name.CIDFontType2, BaseFont=Name("/ABCDEF+Test"),
            CIDSystemInfo=Dictionary(Registry=b"Adobe", Ordering=b"Identity", Supplement=0),
            FontDescriptor=pdf.make_indirect(descriptor), DW=600, CIDToGIDMap=Name.Identity,
        )  # fmt: skip
        made = Dictionary(
            Type=Name.Font, Subtype=Name.Type0, BaseFont=Name("/ABCDEF+Test"), Encoding=Name("/Identity-H"),
            DescendantFonts=Array([pdf.make_indirect(descendant)]),
        )  # fmt: skip
        if entries:
            made.ToUnicode = pdf.make_stream(cmap.encode())
        return pdf.make_indirect(made)

    shows = "\n".join(f"<{''.join(f'{codes[c]:04x}' for c in line)}> Tj T*" for line in lines)
    return _page(f"BT /E1 12 Tf 24 TL 50 780 Td {shows} ET".encode(), {"Font/E1": font})


def _outlined() -> bytes:
    """Lines as curves: what programs for print make of text."""
    letters = []
    for row in range(5):
        for column in range(60):
            x, y = 50 + 8 * column, 780 - 20 * row
            letters.append(
                f"{x} {y} m {x} {y + 9} {x + 6} {y + 9} {x + 6} {y} c {x + 3} {y - 2} {x + 1} {y} {x} {y} c f"
            )
    return "\n".join(letters).encode()


def _annotated(subtype: str) -> Callable[[Pdf, pikepdf.Page], None]:
    def change(pdf: Pdf, page: pikepdf.Page) -> None:
        form = pdf.make_stream(
            shown(["Filled in by hand"], top=4), Type=Name.XObject, Subtype=Name.Form, BBox=Array([0, 0, 300, 30]),
            Resources=page.obj.Resources,
        )  # fmt: skip
        annotation = Dictionary(
            Type=Name.Annot, Subtype=Name(f"/{subtype}"), Rect=Array([50, 300, 350, 330]), AP=Dictionary(N=form), F=4
        )
        page.obj.Annots = Array([pdf.make_indirect(annotation)])

    return change


def _tagged(pdf: Pdf, page: pikepdf.Page) -> None:
    del page
    pdf.Root.MarkInfo = Dictionary(Marked=True)
    pdf.Root.StructTreeRoot = pdf.make_indirect(Dictionary(Type=Name.StructTreeRoot))


def _hidden_layer(pdf: Pdf, page: pikepdf.Page) -> None:
    group = pdf.make_indirect(Dictionary(Type=Name.OCG, Name=b"draft"))
    page.obj.Resources.Properties = Dictionary(L1=group)
    pdf.Root.OCProperties = Dictionary(OCGs=Array([group]), D=Dictionary(OFF=Array([group]), Order=Array([])))


def _pattern(pdf: Pdf) -> pikepdf.Object:
    return pdf.make_stream(
        b"q 595 0 0 842 0 0 cm /Im Do Q", Type=Name.Pattern, PatternType=1, PaintType=1, TilingType=1,
        BBox=Array([0, 0, WIDTH, HEIGHT]), XStep=WIDTH, YStep=HEIGHT,
        Resources=Dictionary(XObject=Dictionary(Im=_scan(LINES)(pdf))),
    )  # fmt: skip


def _type_3(pdf: Pdf) -> pikepdf.Object:
    glyph = pdf.make_stream(b"600 0 0 0 500 700 d1 0 0 500 700 re f")
    return Dictionary(
        Type=Name.Font, Subtype=Name.Type3, FontBBox=Array([0, 0, 600, 700]),
        FontMatrix=Array([0.001, 0, 0, 0.001, 0, 0]),
        CharProcs=Dictionary(a1=glyph), FirstChar=1, LastChar=30, Widths=Array([600] * 30),
        Encoding=Dictionary(Type=Name.Encoding, Differences=Array([1, *[Name("/a1")] * 30])),
    )  # fmt: skip


_FULL = b"q 595 0 0 842 0 0 cm /Im Do Q "
_SHIFTED = str.maketrans("abcdefghijklmnopqrstuvwxyz", "bcdfghjklmnpqrstvwxzbcdfgh")
_ENGLISH = " ".join(LINES)
_LIGATURES = "of\ufb01ce \ufb01nal a\ufb04uent \ufb02ow "


def kinds() -> dict[str, Kind]:
    """All kinds, by name."""
    scan = {"XObject/Im": _scan(LINES)}
    logo = {"XObject/Im": _scan(["LOGO"], (200, 60))}
    table = b" ".join(b"50 %d 495 0.7 re f" % (500 - 20 * row) for row in range(10))
    text, pattern = shown(LINES), b"/Pattern cs /P1 scn 0 0 595 842 re f "
    heading = shown(["Received 2026-11-26, page 3"], top=820)
    usable = {
        "plain text": (_page(text), _ENGLISH),
        "text and a table's lines": (_page(text + b" " + table), _ENGLISH),
        "text on a tinted ground": (_page(b"0.9 g 40 600 515 220 re f 0 g " + text), _ENGLISH),
        "text and a logo": (_page(text + b" q 80 0 0 24 50 50 cm /Im Do Q", logo), _ENGLISH),
        "text in a form": (_page(b"/Fm Do", {"XObject/Fm": _form}), _ENGLISH),
        "embedded font": (embedded(LINES, lambda c: c), _ENGLISH),
        "Korean": (embedded(KOREAN, lambda c: c), " ".join(KOREAN)),
        "Chinese": (embedded(CHINESE, lambda c: c), " ".join(CHINESE)),
        "ligatures": (embedded([_LIGATURES], lambda c: c), "office final affluent flow"),
        "links": (_page(text, change=_annotated("Link")), _ENGLISH),
        "tagged text": (_page(text, change=_tagged), _ENGLISH),
        "turned page": (_page(text, change=lambda _, page: page.rotate(90, relative=False)), _ENGLISH),
        "nothing at all": (_page(b""), ""),
    }
    unusable = {
        "scan": _page(_FULL, scan),
        "scan with a layer for its heading": _page(_FULL + _layer()[:120] + b" ET", scan),
        "scan with a stamped heading": _page(_FULL + heading, scan),
        "scan of half a page": _page(text + b" q 595 0 0 421 0 0 cm /Im Do Q", scan),
        "scan in a pattern": _page(pattern + heading, {"Pattern/P1": _pattern}),
        "tagged scan": _page(_FULL, scan, _tagged),
        "no ToUnicode": embedded(LINES, lambda _: None),
        "ToUnicode with holes": embedded(LINES, lambda c: None if c == "e" else c),
        "ToUnicode of U+FFFD": embedded(LINES, lambda c: "\ufffd" if c == "a" else c),
        "ToUnicode of private use": embedded(LINES, lambda c: chr(0xE000 + ord(c))),
        "ToUnicode that mixes letters up": embedded(LINES, lambda c: c.translate(_SHIFTED)),
        "Type 3 without names": _page(b"BT /T3 12 Tf 50 700 Td <0102030405060708> Tj ET", {"Font/T3": _type_3}),
        "letters as outlines": _page(_outlined()),
        "text and letters as outlines": _page(heading + b" " + _outlined()),
        "filled-in form fields": _page(text, change=_annotated("Widget")),
        "fields alone": _page(b"", change=_annotated("Widget")),
        "stamp": _page(text, change=_annotated("Stamp")),
        "hidden layer": _page(b"/OC /L1 BDC " + text + b" EMC", change=_hidden_layer),
        "white text": _page(b"1 g " + text),
        "invisible text on nothing": _page(_layer()),
    }
    return {
        **{name: Kind(body, True, True, expected) for name, (body, expected) in usable.items()},
        "scan with an OCR layer": Kind(_page(_FULL + _layer(), scan), False, True),
        **{name: Kind(body, False, False) for name, body in unusable.items()},
    }


def _layer() -> bytes:
    """Invisible text where the scan has its lines."""
    parts = ["BT /F1 12 Tf 3 Tr"]
    for number, line in enumerate(LINES * 4):
        parts.append(f"1 0 0 1 30 {HEIGHT - 43 - 30 * number} Tm ({line}) Tj")
    return "\n".join((*parts, "ET")).encode("latin-1")


def _form(pdf: Pdf) -> pikepdf.Object:
    helvetica = Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica, Encoding=Name.WinAnsiEncoding)
    return pdf.make_stream(
        shown(LINES), Type=Name.XObject, Subtype=Name.Form, BBox=Array([0, 0, WIDTH, HEIGHT]),
        Resources=Dictionary(Font=Dictionary(F1=helvetica)),
    )  # fmt: skip
