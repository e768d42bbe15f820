"""Answers of the API and of other services, in every form that is merged; the parts of a document that come back."""

from collections.abc import Callable, Sequence
from itertools import count, pairwise
from typing import Any

from hypothesis import strategies as st

from tasks.job.record import PageRange

Json = dict[str, Any]
Words = Sequence[tuple[str, float]]
NUMBERINGS: dict[str, Callable[[int, int], Any]] = {
    "restart": lambda _, place: place,
    "document": lambda first, place: first - 1 + place,
    "one": lambda _, place: place + 1,
    "garbage": lambda first, place: ["x", None, -1, 7.5, first * 31 % 7][(first + place) % 5],
}
BOX = {"vertices": [{"x": 1, "y": 2}] * 4}

texts = st.text(st.characters(codec=None), max_size=12)
ratios = st.floats(0, 1)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
anything = st.recursive(
    scalars | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


def word(shape: str, number: int, text: str, confidence: float) -> Json:
    corners = [{"x": number, "y": 2}] * 4 if shape == "older" else [{"x": number / 1000, "y": 0.25}] * 4
    box = "boundingBox" if shape == "older" else "bounding_box"
    return {"id": number, "text": text, "confidence": confidence, box: {"vertices": corners}, "new_in_word": [None]}


def page(shape: str, words: Sequence[tuple[str, float]], confidence: float, width: int) -> Json:
    text = " ".join(text for text, _ in words)
    made: Json = {"id": "?", "text": text, "words": [word(shape, n, *drawn_word) for n, drawn_word in enumerate(words)]}
    return made | ({"width": width, "height": 256, "confidence": confidence} if shape == "older" else {"rotation": 0})


def batch(shape: str, pages: Sequence[Json], first: int, numbering: str) -> Json:
    """One download, as the API was seen to word it: some pages of a document, the first with the number `first`.

    Words are numbered over the answer, its confidence is the least of its pages', its text theirs without a break.
    """
    number, words = NUMBERINGS[numbering], count()
    numbered = [
        {**page, "id": number(first, place), "words": [{**word, "id": next(words)} for word in page["words"]]}
        for place, page in enumerate(pages)
    ]
    if shape == "newer":
        usage = {"pages": len(pages), "tier": 2}
        return {"api": "2.0", "model": "ocr-250904", "pages": numbered, "usage": usage, "later": {"x": [1]}}
    sizes = [{"page": place + 1, "width": page["width"], "height": 256} for place, page in enumerate(pages)]
    return {
        "apiVersion": "1.1",
        "confidence": min(page["confidence"] for page in pages),
        "metadata": {"pages": sizes, "unit": "px"},
        "mimeType": "multipart/form-data",
        "modelVersion": "ocr-250904",
        "numBilledPages": len(pages),
        "pages": numbered,
        "stored": False,
        "text": "".join(page["text"] for page in pages),
        "later": None,
    }


def partition(data: st.DataObject, total: int) -> list[PageRange]:
    if data.draw(st.booleans(), label="ten pages page"):
        cuts = [*range(1, total + 1, 10), total + 1]
    else:
        cuts = sorted(data.draw(st.sets(st.integers(1, total))) | {1, total + 1})
    return [PageRange(first=first, last=after - 1) for first, after in pairwise(cuts)]


def clova(pages: Sequence[Words], first: int = 1, numbering: str = "restart") -> Json:
    images: list[Json] = []
    for place, words in enumerate(pages):
        fields = [
            {"inferText": text, "inferConfidence": confidence, "boundingPoly": BOX, "lineBreak": number % 2 == 1}
            for number, (text, confidence) in enumerate(words)
        ]
        images.append({"uid": "u", "inferResult": "SUCCESS", "fields": fields, "new": [None]})
        if len(words) != 1:  # it is optional
            images[-1]["convertedImageInfo"] = {"width": 7, "pageIndex": NUMBERINGS[numbering](first, place)}
    return {"version": "V2", "requestId": "r", "timestamp": 1, "images": images, "usage": {"pages": len(pages), "t": 1}}


def google_page(words: Words) -> Json:
    if not words:
        return {}
    made: list[Json] = [
        {
            "confidence": confidence,
            "boundingBox": BOX,
            "symbols": [{"text": text[:1]}, {"text": text[1:], "property": {"detectedBreak": {"type": "SPACE"}}}],
        }
        for text, confidence in words
    ]
    made[-1]["symbols"][-1]["property"]["detectedBreak"]["type"] = "LINE_BREAK"
    return {"width": 7, "blocks": [{"paragraphs": [{"words": made[:1]}, {"words": made[1:]}]}]}


def google_text(words: Words) -> str:
    return " ".join(text for text, _ in words) + "\n" if words else ""


def entries(text: str, words: Words) -> list[Json]:
    whole = {"locale": "ko", "description": text, "boundingPoly": BOX}
    return [whole, *({"description": text, "boundingPoly": BOX} for text, _ in words)] if words else []


def responses(pages: Sequence[Words], first: int = 1, numbering: str = "restart") -> Json:
    made: list[Json] = []
    for place, words in enumerate(pages):
        response: Json = {"new": place} if len(words) > 1 else {}
        if words:
            response["textAnnotations"] = entries(google_text(words), words)
            response["fullTextAnnotation"] = {"pages": [google_page(words)], "text": google_text(words)}
        if len(words) != 1:
            response["context"] = {"uri": "u", "pageNumber": NUMBERINGS[numbering](first, place)}
        made.append(response if len(words) < 2 else {**response, "new": words[0][1]})
    return {"responses": made, "inputConfig": {"mimeType": "m"}, "totalPages": len(pages), "numBilledPages": len(pages)}


def document(pages: Sequence[Words], first: int = 1, numbering: str = "restart") -> Json:
    del first, numbering  # it has no numbers
    text = "".join(map(google_text, pages))
    annotation: Json = {"text": text, "new": 1}
    if len(pages) > 1 or pages[0]:
        annotation["pages"] = [google_page(words) for words in pages]
    found = entries(text, [word for words in pages for word in words])
    return {"textAnnotations": found, "fullTextAnnotation": annotation, "usage": {"pages": len(pages)}}


def shape(name: str) -> Callable[..., Json]:
    def made(pages: Sequence[Words], first: int = 1, numbering: str = "restart") -> Json:
        return batch(name, [page(name, words, 0.5, 7) for words in pages], first, numbering)

    return made


FORMS: dict[str, Callable[..., Json]] = {
    "newer": shape("newer"),
    "older": shape("older"),
    "clova": clova,
    "google responses": responses,
    "google document": document,
}
