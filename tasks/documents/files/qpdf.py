"""Limits qpdf's memory, reports what it had to repair, and saves what it has read."""

import warnings
from pathlib import Path

import pikepdf

from tasks.documents.files.writing import written

_MOST_INFLATED = 64 << 20  # bytes of a stream with a document's structure
# qpdf's messages about repairs that lose nothing.
_HARMLESS = ("Resources is missing or invalid; repairing", "/Type key should be")


def bound_memory(limit: int = _MOST_INFLATED) -> None:
    """Limit the size to which qpdf inflates a stream; the default suffices for any document's structure."""
    # Older releases of pikepdf have no such settings.
    set_limits = getattr(pikepdf.settings, "set_qpdf_limits", None)
    if set_limits is not None:
        set_limits(flate_max_memory=limit, run_length_max_memory=limit, png_max_memory=limit, tiff_max_memory=limit)


def repairs(pdf: pikepdf.Pdf) -> list[str]:
    """What qpdf had to repair since the last call, except for repairs that lose nothing."""
    return [
        warning for warning in map(str, pdf.get_warnings()) if not any(sentence in warning for sentence in _HARMLESS)
    ]


def save_pdf(pdf: pikepdf.Pdf, to: Path) -> None:
    """Save a PDF without encryption: the same bytes each time, its streams as they were.

    Raises:
        OSError: the file cannot be written.
    """
    with written(to) as out, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damage, and of widgets unknown to the form: the original has the same
        pdf.save(
            out,
            deterministic_id=True,
            encryption=False,
            # Object streams keep a part with many fields or annotations as small as the original.
            object_stream_mode=pikepdf.ObjectStreamMode.generate,
            stream_decode_level=pikepdf.StreamDecodeLevel.none,
        )
