"""A font without visible glyphs, for text that can be searched and copied but not seen.

A code represents a character with a certain width, and is assigned when it is first used. The font's ToUnicode map
contains the character. Therefore any script works, each word is as wide as its box without scaling, and a whole line is
one piece of text, which programs that extract text keep together.
"""

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate

import pikepdf
from pikepdf import Array, Dictionary, Name

NAME = "BulkOcrText"
DESCENT = 0.2  # the depth of letters below the baseline, as a fraction of the font's size
WIDTHS = 20  # the resolution of widths: steps in the font's size
_UNITS = 1000
_MOST_CODES = 0xFFFF
_WIDEST = 0x7FFF  # the maximum in a TrueType font
_IN_A_BLOCK = 100  # the maximum number of entries in a block of a CMap, by the specification

Glyph = tuple[str, int]
"""A character and its width in twentieths of the font's size."""


class GlyphlessFont:
    """One of a document's fonts. If its codes are used up, another font is needed."""

    def __init__(self) -> None:
        self._codes: dict[Glyph, int] = {}

    def has_room(self, glyphs: Sequence[Glyph]) -> bool:
        """Return whether there are enough codes left for these glyphs."""
        return len(self._codes) + len(glyphs) <= _MOST_CODES or (
            len(self._codes) + len(set(glyphs) - self._codes.keys()) <= _MOST_CODES
        )

    def encode(self, glyphs: Sequence[Glyph]) -> str:
        """Return the codes of glyphs in hexadecimal. Check `has_room` first."""
        codes = self._codes
        return "".join(f"{codes.setdefault(glyph, len(codes) + 1):04x}" for glyph in glyphs)

    def write_to(self, pdf: pikepdf.Pdf, font: Dictionary) -> None:
        """Fill in the font's object, once all text of the document is encoded."""
        ascent, descent = round((1 - DESCENT) * _UNITS), -round(DESCENT * _UNITS)
        glyphs = sorted({width for _, width in self._codes})
        numbers = {width: struct.pack(">H", number) for number, width in enumerate(glyphs, 1)}
        descriptor = Dictionary(
            Type=Name.FontDescriptor,
            FontName=Name(f"/{NAME}"),
            Flags=4,
            FontBBox=Array([0, descent, _UNITS, ascent]),
            ItalicAngle=0,
            Ascent=ascent,
            Descent=descent,
            CapHeight=ascent,
            StemV=80,
            FontFile2=pdf.make_stream(font_file(glyphs)),
        )
        descendant = Dictionary(
            Type=Name.Font,
            Subtype=Name.CIDFontType2,
            BaseFont=Name(f"/{NAME}"),
            CIDSystemInfo=Dictionary(Registry=b"Adobe", Ordering=b"Identity", Supplement=0),
            FontDescriptor=pdf.make_indirect(descriptor),
            DW=_UNITS // 2,
            W=pdf.make_indirect(Array([1, Array([width * _UNITS // WIDTHS for _, width in self._codes])])),
            # All characters of the same width share one glyph.
            CIDToGIDMap=pdf.make_stream(b"\0\0" + b"".join(numbers[width] for _, width in self._codes)),
        )
        font.Type, font.Subtype, font.BaseFont = Name.Font, Name.Type0, Name(f"/{NAME}")
        font.Encoding = Name("/Identity-H")
        font.DescendantFonts = Array([pdf.make_indirect(descendant)])
        entries = [(f"{code:04x}", character) for (character, _), code in self._codes.items()]
        font.ToUnicode = pdf.make_stream(to_unicode(entries))


def to_unicode(entries: Sequence[tuple[str, str]]) -> bytes:
    """Return a ToUnicode CMap for pairs of code and character, both in hexadecimal."""
    return "\n".join(("\n".join(_CMAP_HEAD), *_blocks(entries), _CMAP_END)).encode("ascii")


_CMAP_HEAD = (
    "/CIDInit /ProcSet findresource begin",
    "12 dict begin",
    "begincmap",
    "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def",
    "/CMapName /Adobe-Identity-UCS def",
    "/CMapType 2 def",
    "1 begincodespacerange",
    "<0000> <ffff>",
    "endcodespacerange",
)
_CMAP_END = "endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend"


def _blocks(entries: Sequence[tuple[str, str]]) -> Iterator[str]:
    for start in range(0, len(entries), _IN_A_BLOCK):
        block = entries[start : start + _IN_A_BLOCK]
        yield f"{len(block)} beginbfchar"
        yield from (f"<{code}> <{character.encode('utf-16-be').hex()}>" for code, character in block)
        yield "endbfchar"


def font_file(widths: Sequence[int]) -> bytes:
    """Return a TrueType font with an empty glyph and one glyph for each width, with the tables that PDFs need.

    A glyph is a line from one point to another and back. It encloses no area, so nothing is painted. Its extent is
    needed: readers highlight it, and pdfium omits text without one.

    Args:
        widths: the widths, in twentieths of the font's size.
    """
    ascent, descent = round((1 - DESCENT) * _UNITS), -round(DESCENT * _UNITS)
    advances = [_UNITS, *(min(width * _UNITS // WIDTHS, _WIDEST) for width in widths)]
    outlines = [_outline(width, descent, ascent) for width in advances[1:]]
    places = [0, 0, *accumulate(map(len, outlines))]
    count, box = len(advances), (0, descent, max(advances), ascent)
    tables = {
        b"glyf": b"".join(outlines) or b"\0\0\0\0",
        b"head": struct.pack(">4I2H2q4h2H3h", 0x10000, 0x10000, 0, 0x5F0F3CF5, 0, _UNITS, 0, 0, *box, 0, 8, 2, 1, 0),
        b"hhea": struct.pack(">I3hH11hH", 0x10000, ascent, descent, 0, max(advances), 0, 0, 0, 1, *[0] * 7, count),
        b"hmtx": b"".join(struct.pack(">Hh", width, 0) for width in advances),
        b"loca": struct.pack(f">{count + 1}I", *places),
        b"maxp": struct.pack(">I14H", 0x10000, count, 2, 1, 0, 0, 1, *[0] * 8),
    }
    directory, body = [struct.pack(">I4H", 0x10000, len(tables), 64, 2, len(tables) * 16 - 64)], []
    at = 12 + 16 * len(tables)
    for tag, data in tables.items():
        padded = data + b"\0" * (-len(data) % 4)
        checksum = sum(struct.unpack(f">{len(padded) // 4}I", padded)) & 0xFFFFFFFF
        directory.append(struct.pack(">4sIII", tag, checksum, at, len(data)))
        body.append(padded)
        at += len(padded)
    return b"".join((*directory, *body))


def _outline(width: int, descent: int, ascent: int) -> bytes:
    """Return a contour with two points: a line and its way back."""
    outline = struct.pack(">5hHH2B4h", 1, 0, descent, width, ascent, 1, 0, 1, 1, 0, width, descent, ascent - descent)
    return outline + b"\0" * (-len(outline) % 4)
