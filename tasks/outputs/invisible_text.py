"""Removes another OCR program's text layer from a page before a new one is added, so that searches do not hit twice."""

import zlib

import pikepdf
from pikepdf import Name, Page, Pdf

_SHOWS = {"Tj", "TJ", "'", '"'}
_INVISIBLE = 3


def take_off_invisible_text(pdf: Pdf, page: Page) -> bool:
    """Remove the invisible text from a page's content, if all text of the page is invisible.

    The appearance of the page does not change: all other content is kept, and no visible text depends on the position
    of the removed text.

    Returns:
        Whether any text was removed.
    """
    try:
        instructions = list(pikepdf.parse_content_stream(page))
    except (pikepdf.PdfError, ValueError, TypeError):
        return False
    mode, modes, hidden, visible = 0, list[int](), list[int](), False
    for place, instruction in enumerate(instructions):
        operator = str(instruction.operator)
        if operator == "q":
            modes.append(mode)
        elif operator == "Q":
            mode = modes.pop() if modes else mode
        elif operator == "Tr":
            try:
                mode = int(instruction.operands[0])
            except (IndexError, TypeError, ValueError):
                return False
        elif operator in _SHOWS:
            if mode == _INVISIBLE:
                hidden.append(place)
            else:
                visible = True
    if visible or not hidden:
        return False
    left_out = set(hidden)
    kept = [instruction for place, instruction in enumerate(instructions) if place not in left_out]
    content = pikepdf.unparse_content_stream(kept)
    page.obj.Contents = pdf.make_stream(zlib.compress(content, 6), Filter=Name.FlateDecode)
    return True
