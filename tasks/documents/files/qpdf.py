"""How qpdf is used here: bounded, and with an ear for what it had to repair."""

import pikepdf

_MOST_INFLATED = 64 << 20  # bytes of a stream, of those that hold a document's structure
# Sentences of qpdf's about what it repairs without any loss.
_HARMLESS = ("Resources is missing or invalid; repairing", "/Type key should be")


def bound_memory(most: int = _MOST_INFLATED) -> None:
    """Let qpdf inflate no stream beyond so many bytes: by default, what a document can need for its own structure."""
    # Older releases of pikepdf have no such settings.
    set_limits = getattr(pikepdf.settings, "set_qpdf_limits", None)
    if set_limits is not None:
        set_limits(flate_max_memory=most, run_length_max_memory=most, png_max_memory=most, tiff_max_memory=most)


def repairs(pdf: pikepdf.Pdf) -> list[str]:
    """What qpdf had to repair since it was last asked, other than what cannot lose anything."""
    return [
        warning for warning in map(str, pdf.get_warnings()) if not any(sentence in warning for sentence in _HARMLESS)
    ]
