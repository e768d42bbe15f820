"""PDFs with every feature that decides how a page is drawn and does not lie on the page itself.

Each has three pages or more that look different from each other; written as raw objects, so that no library that reads
them has made them.
"""

from collections.abc import Callable, Mapping, Sequence

from tests.hostile.bombs import pdf, stream

HELVETICA = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>"
BOX = b"/MediaBox[0 0 200 200]"
_FIRST = 10  # the number of the first page; before it are the catalogue, the page tree and what a feature shares


def _document(
    pages: Sequence[bytes],
    contents: Sequence[bytes],
    others: Mapping[int, bytes] | None = None,
    catalogue: bytes = b"",
    tree: bytes = b"",
    more_contents: bytes = b"",
) -> bytes:
    """Pages with content of their own, which may go on with streams for all.

    `others` are numbered from 3 to 9, or from 100 on.
    """
    objects = {}
    for number, (page, content) in enumerate(zip(pages, contents, strict=True)):
        own = _FIRST + 2 * number
        objects[own] = b"<</Type/Page/Parent 2 0 R/Contents[%d 0 R%s]%s>>" % (own + 1, more_contents, page)
        objects[own + 1] = stream(b"", content)
    kids = b" ".join(b"%d 0 R" % (_FIRST + 2 * number) for number in range(len(pages)))
    tree = b"<</Type/Pages/Kids[%s]/Count %d%s%s>>" % (kids, len(pages), BOX if b"MediaBox" not in tree else b"", tree)
    return pdf({1: b"<</Type/Catalog/Pages 2 0 R%s>>" % catalogue, 2: tree, **(others or {}), **objects})


def _text(number: int, font: bytes = b"F1") -> bytes:
    return b"BT /%s 40 Tf 20 %d Td (Page %d) Tj ET " % (font, 30 * number, number)


def _picture(seed: int) -> bytes:
    """A grey picture of 4 by 4 pixels."""
    pixels = bytes((seed * 37 + place * 53) % 256 for place in range(16))
    return stream(b"/Type/XObject/Subtype/Image/Width 4/Height 4/BitsPerComponent 8/ColorSpace/DeviceGray", pixels)


def _form(content: bytes, resources: bytes = b"", more: bytes = b"") -> bytes:
    return stream(b"/Type/XObject/Subtype/Form/BBox[0 0 200 200]%s%s" % (resources, more), content)


def _page(resources: bytes, more: bytes = b"") -> bytes:
    return b"/Resources<<%s>>%s" % (resources, more)


def type_3_glyphs_that_use_the_pages_fonts() -> bytes:
    """Type 3 fonts without resources: the font and the form that their glyphs use is named by no content."""
    font = (
        b"<</Type/Font/Subtype/Type3/FontBBox[0 0 1000 1000]/FontMatrix[.001 0 0 .001 0 0]/FirstChar 97/LastChar 98"
        b"/Widths[1000 1000]/CharProcs<</a 4 0 R/b 5 0 R>>/Encoding<</Type/Encoding/Differences[97/a/b]>>>>"
    )
    others = {
        3: font,
        4: stream(b"", b"1000 0 d0 BT /Hidden 900 Tf 0 100 Td (g) Tj ET"),
        5: stream(b"", b"1000 0 d0 5 0 0 5 0 0 cm /Shape Do"),
        6: HELVETICA,
        7: _form(b"20 20 150 60 re f"),
    }
    resources = b"/Font<</T3 3 0 R/Hidden 6 0 R>>/XObject<</Shape 7 0 R>>"
    contents = [b"BT /T3 60 Tf 20 %d Td (ab%s) Tj ET" % (30 * n, b"a" * (n - 1)) for n in (1, 2, 3)]
    return _document([_page(resources)] * 3, contents, others)


def type_3_glyphs_with_some_resources() -> bytes:
    """Type 3 fonts with resources of one kind; what is of another kind is the page's."""
    font = (
        b"<</Type/Font/Subtype/Type3/FontBBox[0 0 1000 1000]/FontMatrix[.001 0 0 .001 0 0]/FirstChar 97/LastChar 97"
        b"/Widths[1000]/CharProcs<</a 4 0 R>>/Encoding<</Type/Encoding/Differences[97/a]>>"
        b"/Resources<</XObject<</Shape 7 0 R>>>>>>"
    )
    others = {
        3: font,
        4: stream(b"", b"1000 0 d0 q 5 0 0 5 0 0 cm /Shape Do Q BT /Hidden 900 Tf 0 100 Td (g) Tj ET"),
        6: HELVETICA,
        7: _form(b"20 20 150 60 re f"),
    }
    resources = b"/Font<</T3 3 0 R/Hidden 6 0 R>>"
    contents = [b"BT /T3 60 Tf 20 %d Td (%s) Tj ET" % (30 * n, b"a" * n) for n in (1, 2, 3)]
    return _document([_page(resources)] * 3, contents, others)


def appearances_without_resources() -> bytes:
    """Annotations whose appearances, one of several states among them, use what the page has."""
    others = {
        3: b"<</Type/Annot/Subtype/Stamp/F 4/Rect[20 20 180 180]/AP<</N 5 0 R>>>>",
        4: b"<</Type/Annot/Subtype/Stamp/F 4/Rect[20 20 100 100]/AS/On/AP<</N<</On 6 0 R/Off 7 0 R>>>>>>",
        5: stream(b"/Subtype/Form/BBox[0 0 160 160]", b"BT /Hidden 40 Tf 5 90 Td (Stamp) Tj ET"),
        6: stream(b"/Subtype/Form/BBox[0 0 80 80]", b"/Shape Do"),
        7: stream(b"/Subtype/Form/BBox[0 0 80 80]", b"0 0 9 9 re f"),
        8: HELVETICA,
        9: _form(b"10 10 50 30 re f"),
    }
    page = _page(b"/Font<</Hidden 8 0 R>>/XObject<</Shape 9 0 R>>", b"/Annots[3 0 R 4 0 R]")
    return _document([page] * 3, [b"%d 180 15 15 re f" % (30 * n) for n in (1, 2, 3)], others)


def soft_masks_without_resources() -> bytes:
    """A soft mask whose group uses what the page has."""
    others = {
        3: b"<</Type/ExtGState/SMask<</Type/Mask/S/Luminosity/G 4 0 R>>>>",
        4: _form(
            b"/Shape Do BT /Hidden 50 Tf 20 120 Td 1 g (Mask) Tj ET", more=b"/Group<</S/Transparency/CS/DeviceGray>>"
        ),
        5: _form(b"1 g 30 30 100 60 re f"),
        6: HELVETICA,
    }
    page = _page(b"/ExtGState<</Masked 3 0 R>>/XObject<</Shape 5 0 R>>/Font<</Hidden 6 0 R>>")
    return _document([page] * 3, [b"/Masked gs 0 0 200 %d re f" % (60 * n) for n in (1, 2, 3)], others)


def fonts_of_graphics_states() -> bytes:
    """A Type 3 font that only a graphics state names."""
    font = (
        b"<</Type/Font/Subtype/Type3/FontBBox[0 0 1000 1000]/FontMatrix[.001 0 0 .001 0 0]/FirstChar 97/LastChar 97"
        b"/Widths[1000]/CharProcs<</a 4 0 R>>/Encoding<</Type/Encoding/Differences[97/a]>>>>"
    )
    others = {
        3: b"<</Type/ExtGState/Font[5 0 R 60]>>",
        4: stream(b"", b"1000 0 d0 5 0 0 5 0 0 cm /Shape Do"),
        5: font,
        6: _form(b"20 20 150 60 re f"),
        7: HELVETICA,
    }
    page = _page(b"/ExtGState<</G 3 0 R>>/XObject<</Shape 6 0 R>>/Font<</F1 7 0 R/T3 5 0 R>>")
    contents = [_text(n) + b"BT /T3 60 Tf /G gs 20 %d Td (a) Tj ET" % (20 * n) for n in (1, 2, 3)]
    return _document([page] * 3, contents, others)


def patterns() -> bytes:
    """A tiling pattern with resources of its own, in which a form has none."""
    pattern = b"/Type/Pattern/PatternType 1/PaintType 1/TilingType 1/BBox[0 0 40 40]/XStep 40/YStep 40/Resources<<%s>>"
    others = {
        3: stream(pattern % b"/XObject<</Shape 4 0 R/Deep 5 0 R>>", b"/Shape Do"),
        4: _form(b"5 5 20 20 re f /Deep Do"),
        5: _form(b"30 30 5 5 re f"),
        6: stream(pattern % b"/XObject<</Deep 4 0 R/Shape 5 0 R>>", b"/Shape Do"),
    }
    page = _page(b"/Pattern<</P1 3 0 R/P2 6 0 R>>")
    contents = [b"/Pattern cs /P%d scn 0 0 200 %d re f" % (1 + n % 2, 50 * n) for n in (1, 2, 3)]
    return _document([page] * 3, contents, others)


def forms_in_forms_without_resources() -> bytes:
    """Forms that use what the form around them has, or the page."""
    others = {
        3: _form(b"q 1 0 0 1 0 20 cm /Inner Do Q", b"/Resources<</XObject<</Inner 4 0 R/Shape 6 0 R>>>>"),
        4: _form(b"/Shape Do /Deep Do BT /Hidden 30 Tf 20 150 Td (Inner) Tj ET"),
        5: _form(b"10 10 30 30 re f"),
        6: _form(b"60 60 50 20 re f"),
        7: HELVETICA,
    }
    page = _page(b"/XObject<</Outer 3 0 R/Deep 5 0 R>>/Font<</Hidden 7 0 R>>")
    return _document([page] * 3, [b"/Outer Do %d 0 20 20 re f" % (40 * n) for n in (1, 2, 3)], others)


def resources_of_the_page_tree() -> bytes:
    """One dictionary of resources for all pages, inherited, of which each page draws a picture of its own."""
    others = {100 + n: _picture(n) for n in range(6)}
    names = b"".join(b"/I%d %d 0 R" % (n, 100 + n) for n in range(6))
    contents = [b"180 0 0 180 10 10 cm /I%d Do" % n for n in range(5)]
    return _document([b""] * 5, contents, others, tree=b"/Resources<</XObject<<%s>>>>" % names)


def forms_that_share_resources() -> bytes:
    """A form for each page, which all have the same dictionary of resources."""
    others = {3: b"<</XObject<<%s>>>>" % b"".join(b"/I%d %d 0 R" % (n, 100 + n) for n in range(6))}
    others |= {100 + n: _picture(n) for n in range(6)}
    others |= {110 + n: _form(b"180 0 0 180 10 10 cm /I%d Do" % n, b"/Resources 3 0 R") for n in range(5)}
    names = b"".join(b"/Fm%d %d 0 R" % (n, 110 + n) for n in range(5))
    return _document([_page(b"/XObject<<%s>>" % names)] * 5, [b"/Fm%d Do" % n for n in range(5)], others)


def names_in_other_words() -> bytes:
    """Names that content and dictionary write differently, and names in several pieces of content."""
    others = {3: HELVETICA, 4: _picture(1), 5: _picture(2), 6: stream(b"", b"/I#6D"), 7: stream(b"", b" Do Q")}
    page = b"/Resources<</Font<</A#20B#c3#a9 3 0 R>>/XObject<</Im 4 0 R/Other 5 0 R>>>>"
    contents = [_text(n, b"#41 B\xc3\xa9".replace(b" ", b"#20")) + b"q %d 0 0 50 9 9 cm" % (50 * n) for n in (1, 2, 3)]
    return _document([page] * 3, contents, others, more_contents=b" 6 0 R 7 0 R")


def hidden_layers() -> bytes:
    """Layers of which some are hidden: named by content, by a picture, by an annotation, and in a membership."""
    off, on = b"5 0 R", b"6 0 R"
    catalogue = b"/OCProperties<</OCGs[%s %s]/D<</OFF[%s]/ON[%s]/Order[%s %s]>>>>" % (off, on, off, on, off, on)
    others = {
        3: stream(
            b"/Type/XObject/Subtype/Image/Width 1/Height 1/BitsPerComponent 8/ColorSpace/DeviceGray/OC 5 0 R", b"\x60"
        ),
        4: b"<</Type/Annot/Subtype/Square/F 4/Rect[100 100 190 190]/OC 5 0 R/AP<</N 8 0 R>>>>",
        5: b"<</Type/OCG/Name(hidden)>>",
        6: b"<</Type/OCG/Name(shown)>>",
        7: b"<</Type/OCMD/OCGs[5 0 R 6 0 R]/P/AllOn>>",
        8: _form(b"0 0 200 200 re f"),
        9: HELVETICA,
    }
    page = _page(
        b"/Properties<</Off 5 0 R/On 6 0 R/Both 7 0 R>>/XObject<</I 3 0 R>>/Font<</F1 9 0 R>>", b"/Annots[4 0 R]"
    )
    contents = [
        b"/OC /Off BDC 0 0 100 50 re f EMC /OC /On BDC %sEMC /OC /Both BDC 0 150 99 40 re f EMC "
        b"q 90 0 0 90 0 60 cm /I Do Q" % _text(n)
        for n in (1, 2, 3)
    ]
    return _document([page] * 3, contents, others, catalogue)


def fields_without_appearances() -> bytes:
    """A form whose fields have values and no appearances: how they look, its catalogue entry says."""
    catalogue = (
        b"/AcroForm<</NeedAppearances true/DA(/Helv 20 Tf 0 g)/DR<</Font<</Helv 3 0 R>>>>"
        b"/Fields[4 0 R 5 0 R 6 0 R 7 0 R 8 0 R]>>"
    )
    widget = b"<</Type/Annot/Subtype/Widget/FT/Tx/F 4/T(field%d)/V(Value %d)/Rect[20 %d 180 %d]%s/P %d 0 R>>"
    others = {3: HELVETICA}
    for number in (4, 5, 6):
        others[number] = widget % (number, number, 20 * number, 20 * number + 30, b"", _FIRST + 2 * (number - 4))
    others[7] = widget % (7, 7, 10, 40, b"/Q 2/DA(/Helv 12 Tf 0.5 g)", _FIRST + 4)
    others[8] = widget % (8, 8, 150, 190, b"/Ff 16777216/MaxLen 9", _FIRST + 2)
    pages = [_page(b"", b"/Annots[%s]" % annotations) for annotations in (b"4 0 R", b"5 0 R 8 0 R", b"6 0 R 7 0 R")]
    return _document(pages, [b"%d 5 9 9 re f" % (30 * n) for n in (1, 2, 3)], others, catalogue)


def fields_on_several_pages() -> bytes:
    """A field whose value and looks its widgets on all pages take from it; boxes that are ticked."""
    catalogue = b"/AcroForm<</NeedAppearances true/DR<</Font<</Helv 3 0 R>>>>/Fields[4 0 R 8 0 R]>>"
    widget = b"<</Type/Annot/Subtype/Widget/F 4/Parent 4 0 R/Rect[20 %d 180 %d]/P %d 0 R>>"
    box = (
        b"<</Type/Annot/Subtype/Widget/F 4/Parent 8 0 R/AS/%s/Rect[150 150 190 190]"
        b"/AP<</N<</Yes 9 0 R/Off 108 0 R>>>>>>"
    )
    others = {
        3: HELVETICA,
        4: b"<</FT/Tx/T(name)/V(Shared)/DA(/Helv 24 Tf 0 g)/Q 1/Kids[5 0 R 6 0 R 7 0 R]>>",
        8: b"<</FT/Btn/T(box)/V/Yes/Kids[104 0 R 105 0 R 106 0 R]>>",
        9: _form(b"0 0 200 200 re f"),
        108: _form(b"0 0 200 100 re f"),
    }
    for n in range(3):
        others[5 + n] = widget % (20 + 40 * n, 50 + 40 * n, _FIRST + 2 * n)
        others[104 + n] = box % (b"Yes", b"Off", b"Yes")[n]
    pages = [_page(b"", b"/Annots[%d 0 R %d 0 R]" % (5 + n, 104 + n)) for n in range(3)]
    return _document(pages, [b"%d 5 9 9 re f" % (30 * n) for n in (1, 2, 3)], others, catalogue)


def widgets_of_no_form() -> bytes:
    """Widgets that the form does not know, beside one that it knows: only that one is a field."""
    catalogue = b"/AcroForm<</NeedAppearances true/DA(/Helv 20 Tf 0 g)/DR<</Font<</Helv 3 0 R>>>>/Fields[4 0 R]>>"
    widget = b"<</Type/Annot/Subtype/Widget/FT/Tx/F 4/T(f%d)/V(Value %d)/Rect[20 %d 180 %d]%s>>"
    others = {3: HELVETICA, 4: widget % (4, 4, 20, 50, b"")}
    for number in (5, 6, 7):
        others[number] = widget % (number, number, 20 * number, 20 * number + 30, b"/AP<</N 8 0 R>>")
    others[8] = _form(b"0 0 200 90 re f")
    pages = [_page(b"", b"/Annots[%s]" % annotations) for annotations in (b"5 0 R", b"4 0 R 6 0 R", b"7 0 R 4 0 R")]
    return _document(pages, [b"%d 5 9 9 re f" % (30 * n) for n in (1, 2, 3)], others, catalogue)


def text_of_annotations() -> bytes:
    """Annotations of text without an appearance, whose font only their default appearance names."""
    others = {3: HELVETICA}
    for n in range(3):
        others[4 + n] = (
            b"<</Type/Annot/Subtype/FreeText/F 4/DA(/Hidden 24 Tf 0 g)/Contents(Note %d)/Rect[20 %d 180 %d]>>"
            % (n, 20 + 40 * n, 60 + 40 * n)
        )
    pages = [_page(b"/Font<</Hidden 3 0 R>>", b"/Annots[%d 0 R]" % (4 + n)) for n in range(3)]
    return _document(pages, [b"%d 5 9 9 re f" % (30 * n) for n in (1, 2, 3)], others)


def inherited_boxes() -> bytes:
    """Size, crop and rotation that pages take from two levels above them."""
    objects = {
        1: b"<</Type/Catalog/Pages 2 0 R>>",
        2: b"<</Type/Pages/Kids[3 0 R 4 0 R]/Count 4/MediaBox[0 0 300 200]/Resources<</Font<</F1 5 0 R>>>>>>",
        3: b"<</Type/Pages/Parent 2 0 R/Kids[10 0 R 12 0 R]/Count 2/Rotate 90/CropBox[10 10 250 190]>>",
        4: b"<</Type/Pages/Parent 2 0 R/Kids[14 0 R 16 0 R]/Count 2/MediaBox[0 0 200 300]>>",
        5: HELVETICA,
    }
    for n, more in enumerate((b"", b"/Rotate 180", b"/CropBox[20 20 180 280]", b"/UserUnit 2")):
        parent = 3 + n // 2
        objects[10 + 2 * n] = b"<</Type/Page/Parent %d 0 R/Contents %d 0 R%s>>" % (parent, 11 + 2 * n, more)
        objects[11 + 2 * n] = stream(b"", _text(n + 1))
    return pdf(objects)


def default_colours() -> bytes:
    """Colour spaces that take the place of others without being named by any content; colours of inline pictures."""
    gamma = b"[/CalGray<</WhitePoint[0.95 1 1.09]/Gamma 4>>]"
    others = {3: HELVETICA}
    page = _page(b"/ColorSpace<</DefaultGray %s/Mine[/Indexed/DeviceGray 1<00a0>]>>/Font<</F1 3 0 R>>" % gamma)
    inline = b"q 60 0 0 60 120 120 cm BI /W 2 /H 2 /BPC 1 /CS /Mine ID \x40\x80 EI Q "
    contents = [b"0.6 g 0 0 200 100 re f " + inline + b"0 g " + _text(n) for n in (1, 2, 3)]
    return _document([page] * 3, contents, others)


def shadings() -> bytes:
    """Shadings, drawn as they are and as a pattern, one of them of a graphics state of its own."""
    function = b"<</FunctionType 2/Domain[0 1]/C0[0]/C1[1]/N 1>>"
    others = {
        3: b"<</ShadingType 2/ColorSpace/DeviceGray/Coords[0 0 200 0]/Function %s>>" % function,
        4: b"<</Type/Pattern/PatternType 2/Shading 5 0 R>>",
        5: b"<</ShadingType 2/ColorSpace/DeviceGray/Coords[0 0 0 200]/Function %s>>" % function,
    }
    page = _page(b"/Shading<</Across 3 0 R>>/Pattern<</Up 4 0 R>>")
    contents = [b"q 0 0 200 %d re W n /Across sh Q /Pattern cs /Up scn 0 150 200 40 re f" % (40 * n) for n in (1, 2, 3)]
    return _document([page] * 3, contents, others)


def pictures_with_masks() -> bytes:
    """Pictures with a soft mask, a mask and a colour key."""
    mask = b"/Type/XObject/Subtype/Image/Width 2/Height 2"
    grey = b"/BitsPerComponent 8/ColorSpace/DeviceGray"
    others = {
        3: stream(mask + grey + b"/SMask 6 0 R", b"\x10\x40\x80\x20"),
        4: stream(mask + grey + b"/Mask 7 0 R", b"\x10\x40\x80\x20"),
        5: stream(mask + grey + b"/Mask[16 64]", b"\x10\x40\x80\x20"),
        6: stream(mask + grey, b"\xff\x80\x40\x00"),
        7: stream(mask + b"/BitsPerComponent 1/ImageMask true", b"\x40\x80"),
    }
    page = _page(b"/XObject<</I1 3 0 R/I2 4 0 R/I3 5 0 R>>")
    return _document([page] * 3, [b"180 0 0 180 10 10 cm /I%d Do" % n for n in (1, 2, 3)], others)


def transparency() -> bytes:
    """A page that is a transparency group, with blending and a constant alpha."""
    others = {
        3: b"<</Type/ExtGState/ca 0.5/BM/Multiply>>",
        4: _form(b"0.5 g 50 50 100 100 re f", more=b"/Group<</S/Transparency/I true>>"),
    }
    page = _page(b"/ExtGState<</G 3 0 R>>/XObject<</Fm 4 0 R>>", b"/Group<</S/Transparency/CS/DeviceRGB/I true>>")
    return _document([page] * 3, [b"0.7 g 0 0 200 %d re f /G gs /Fm Do" % (50 * n) for n in (1, 2, 3)], others)


def pages_that_lead_to_each_other() -> bytes:
    """Links, threads, replies and pop-ups between pages; what a page leads to is not drawn on it."""
    others = {
        3: HELVETICA,
        4: b"<</Type/Annot/Subtype/Link/Border[0 0 5]/C[0 0 0]/Rect[20 20 80 80]/Dest[14 0 R/Fit]>>",
        5: b"<</Type/Annot/Subtype/Link/Border[0 0 2]/C[0 0 0]/Rect[90 20 180 80]/A<</S/GoTo/D[10 0 R/Fit]>>>>",
        6: b"<</Type/Thread/F 7 0 R>>",
        7: b"<</Type/Bead/T 6 0 R/N 8 0 R/V 8 0 R/P 10 0 R/R[0 0 9 9]>>",
        8: b"<</Type/Bead/T 6 0 R/N 7 0 R/V 7 0 R/P 14 0 R/R[0 0 9 9]>>",
    }
    pages = [_page(b"/Font<</F1 3 0 R>>", b"/Annots[4 0 R 5 0 R]/B[%d 0 R]" % bead) for bead in (7, 7, 8)]
    return _document(pages, [_text(n) for n in (1, 2, 3)], others)


CORPUS: dict[str, Callable[[], bytes]] = {
    make.__name__.replace("_", " "): make
    for make in (
        type_3_glyphs_that_use_the_pages_fonts, type_3_glyphs_with_some_resources, appearances_without_resources,
        soft_masks_without_resources, fonts_of_graphics_states, patterns,
        forms_in_forms_without_resources, resources_of_the_page_tree, forms_that_share_resources, names_in_other_words,
        hidden_layers, fields_without_appearances, fields_on_several_pages, widgets_of_no_form, text_of_annotations,
        inherited_boxes, default_colours, shadings, pictures_with_masks, transparency, pages_that_lead_to_each_other,
    )
}  # fmt: skip
