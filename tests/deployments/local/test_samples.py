"""The sample documents: what they are, and that making them again changes nothing."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pikepdf
import pypdfium2
import pytest
from PIL import Image

from deployments.local.samples import Sample, make_samples
from deployments.local.upstage.formats import Format
from deployments.local.upstage.office import OFFICE
from tests import sample_documents as documents


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return make_samples(tmp_path_factory.mktemp("samples"))


_OFFICE = {".docx": Format.DOCX, ".xlsx": Format.XLSX}


def _texts(path: Path) -> list[str]:
    return OFFICE[_OFFICE[path.suffix]](path)


def _pages(path: Path) -> int:
    if path.suffix == ".pdf":
        with pikepdf.open(path) as pdf:
            return len(pdf.pages)
    if path.suffix in _OFFICE:
        return len(_texts(path))
    with Image.open(path) as image:
        return int(getattr(image, "n_frames", 1))


def test_every_document_has_the_pages_it_says(samples: list[Sample]) -> None:
    assert {sample.path.name: _pages(sample.path) for sample in samples} == {
        sample.path.name: sample.pages for sample in samples
    }
    assert sorted(sample.pages for sample in samples) == [1, 1, 1, 1, 1, 3, 3, 12]


def test_the_set_covers_formats_folders_and_difficult_names(samples: list[Sample]) -> None:
    paths = [sample.path for sample in samples]
    assert {path.suffix for path in paths} == {".pdf", ".png", ".jpg", ".tif", ".docx", ".xlsx"}
    assert len({path.parent for path in paths}) > 2
    assert any(" " in path.name and not path.name.isascii() for path in paths)


def test_the_same_seed_gives_the_same_bytes(samples: list[Sample], tmp_path: Path) -> None:
    again = make_samples(tmp_path)
    assert [sample.path.read_bytes() for sample in again] == [sample.path.read_bytes() for sample in samples]


def test_office_documents_hold_their_phrase_and_one_is_korean(samples: list[Sample]) -> None:
    texts = {sample.path.suffix: _texts(sample.path)[0] for sample in samples if sample.path.suffix in _OFFICE}
    assert texts[".docx"].startswith("회의록")
    assert "Travel expenses" in texts[".xlsx"]


def test_another_seed_gives_other_documents(samples: list[Sample], tmp_path: Path) -> None:
    others = make_samples(tmp_path, seed=1)
    assert all(one.path.read_bytes() != other.path.read_bytes() for one, other in zip(samples, others, strict=True))


def test_a_pdf_page_is_an_image_of_an_a4_sheet_without_text(samples: list[Sample]) -> None:
    report = next(sample.path for sample in samples if sample.pages == 12)
    with pypdfium2.PdfDocument(report) as pdf:
        page = pdf[11]
        assert [round(side) for side in page.get_size()] == [595, 842]
        assert page.get_textpage().get_text_bounded() == ""
        pixels = np.asarray(page.render(scale=1).to_pil().convert("L"))
    paper, ink = np.median(pixels), pixels.min()
    assert 215 < paper < 250
    assert ink < 120


def test_a_fax_is_black_and_white(samples: list[Sample]) -> None:
    fax = next(sample.path for sample in samples if sample.path.suffix == ".tif")
    with Image.open(fax) as image:
        assert image.mode == "1"
        assert image.info["compression"] == "group4"


def test_documents_for_tests_are_what_they_say() -> None:
    with pypdfium2.PdfDocument(documents.text_pdf(["One (1)\nand more", "Zwei für zwei"])) as pdf:
        texts = [page.get_textpage().get_text_bounded().split() for page in pdf]
    assert texts == [["One", "(1)", "and", "more"], ["Zwei", "für", "zwei"]]
    with pytest.raises(pikepdf.PasswordError):
        pikepdf.open(io.BytesIO(documents.encrypted_pdf()))
    with pytest.raises(pikepdf.PdfError):
        pikepdf.open(io.BytesIO(documents.truncated_pdf()))
    for content, kind, frames in (
        (documents.png("a"), "PNG", 1),
        (documents.jpeg("a"), "JPEG", 1),
        (documents.tiff(["a", "b", "c"]), "TIFF", 3),
    ):
        with Image.open(io.BytesIO(content)) as image:
            assert (image.format, getattr(image, "n_frames", 1)) == (kind, frames)


@pytest.mark.parametrize("make", [documents.encrypted_pdf, documents.truncated_pdf])
def test_documents_for_tests_are_the_same_every_time(make: Callable[[], bytes]) -> None:
    assert make() == make()
    assert make().startswith(b"%PDF-")
