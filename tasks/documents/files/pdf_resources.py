"""Finds the resources that pages of a PDF use, so that a part does not contain unused ones.

Many PDFs have one resource dictionary for all pages, pictures included. A name in it is kept if any content that may
resolve names there mentions it: the page's own content and that of forms, patterns, Type 3 glyphs, soft masks and
annotation appearances, with or without resources of their own. Readers differ in where they resolve names, so all of
these places are searched: it is better to keep a resource too many than one too few. If content cannot be read,
everything is kept.
"""

import copy
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import pikepdf
from pikepdf import Array, Dictionary, Name, Object, Page, Pdf, Stream

from tasks.documents.files.qpdf import bound_memory, repairs

log = logging.getLogger(__name__)

# Colour spaces and properties are kept: they are small, and some are used without being named.
_CATEGORIES = ("/XObject", "/Font", "/Pattern", "/Shading", "/ExtGState")
_NAME = re.compile(rb"/([^\x00\t\n\x0c\r ()<>\[\]{}/%]*)")
_ESCAPED = re.compile(rb"#([0-9A-Fa-f]{2})")
_MOST_STEPS = 3_000_000  # lookups: far beyond any real document, a few seconds
_MOST_CONTENT = 16 << 20  # bytes of a stream; longer ones are not searched
_MOST_LZW = 4 << 20  # bytes; LZW is the only compression that qpdf does not limit
_Id = tuple[object, ...]


class _Unknown(Exception):
    """Content cannot be read or takes too long, so its resources are unknown."""


@dataclass(eq=False)
class _Scope:
    """Resources of one holder: a page, form, pattern or font.

    Attributes:
        holder: the dictionary or stream with the `/Resources` entry.
        resources: that entry, possibly inherited.
        mentioned: names mentioned by content that may resolve them here.
        used: the entries of each category with such a name.
        outer: the scopes to search if a name is not found here.
    """

    holder: Object
    resources: Dictionary
    mentioned: set[str] = field(default_factory=set)
    used: dict[str, set[str]] = field(default_factory=dict)
    outer: list["_Scope"] = field(default_factory=list)


def keep_used(pdf: Pdf, pages: Sequence[Page]) -> bool:
    """Remove unused entries from the resources of the given pages and of everything they draw.

    The document is changed in memory and must not be saved afterwards.

    Returns:
        Whether qpdf had to repair something on the way.
    """
    search = _Search(pdf)
    bound_memory(_MOST_CONTENT)
    try:
        for scope in search.over(pages):
            _prune(scope)
    except Exception as error:  # noqa: BLE001  # whatever is odd about its objects: unused resources do no harm
        log.debug("unused resources stay in a part: %s", error)
        return search.repaired
    finally:
        bound_memory()
    return search.repaired


class _Search:
    """Follows all content that pages draw, and collects the names it mentions."""

    def __init__(self, pdf: Pdf) -> None:
        self._pdf = pdf
        self._scopes: dict[_Id, _Scope] = {}
        self._visited: set[tuple[_Id, int]] = set()
        self._names: dict[_Id, frozenset[str]] = {}
        self._pending: list[tuple[_Scope, Iterable[str]]] = []
        self._steps = 0
        self.repaired = False

    def over(self, pages: Sequence[Page]) -> list[_Scope]:
        for number, page in enumerate(pages):
            scope = self._scope(page.obj, page.resources, ("page", number))
            contents = page.obj.get("/Contents")
            for stream in contents if isinstance(contents, Array) else [contents]:
                if isinstance(stream, Stream):
                    self._mention(scope, self._names_in(stream))
            for annotation in _annotations(page):
                self._mention(scope, _names(bytes(annotation.get("/DA", b""))))
                for appearance in _streams(annotation.get("/AP")):
                    self._draw(appearance, scope)
            self._follow()
        return list(self._scopes.values())

    def _follow(self) -> None:
        """Resolve mentioned names until no new ones appear."""
        while self._pending:
            scope, names = self._pending.pop()
            fresh = set(names) - scope.mentioned
            if not fresh:
                continue
            scope.mentioned |= fresh
            self._pending += [(outer, fresh) for outer in scope.outer]
            for category in _CATEGORIES:
                entries = scope.resources.get(category)
                if not isinstance(entries, Dictionary):
                    continue
                self._steps += len(fresh)
                if self._steps > _MOST_STEPS:
                    raise _Unknown
                for name in fresh:
                    if name in entries:
                        scope.used.setdefault(category, set()).add(name)
                        self._use(category, entries[name], (id(scope), category, name), scope)

    def _mention(self, scope: _Scope, names: Iterable[str]) -> None:
        self._pending.append((scope, names))

    def _use(self, category: str, value: Object, place: _Id, scope: _Scope) -> None:
        if category == "/Font":
            self._use_font(value, place, scope)
        elif category == "/ExtGState":
            if not isinstance(value, Dictionary):
                return
            mask, font = value.get("/SMask"), value.get("/Font")
            if isinstance(mask, Dictionary) and isinstance(mask.get("/G"), Stream):
                self._draw(mask.G, scope)
            if isinstance(font, Array) and len(font):
                self._use_font(font[0], (*place, "font"), scope)
        elif isinstance(value, Stream) and value.get("/Subtype") != Name.Image:
            self._draw(value, scope)

    def _use_font(self, font: Object, place: _Id, scope: _Scope) -> None:
        glyphs = font.get("/CharProcs") if isinstance(font, Dictionary) else None
        if not isinstance(glyphs, Dictionary):
            return
        inner = self._inner(font, place, scope)
        for key in glyphs.keys():  # noqa: SIM118  # no Python dictionary
            if isinstance(glyphs[key], Stream):
                self._draw(glyphs[key], inner)

    def _draw(self, stream: Object, scope: _Scope) -> None:
        inner = self._inner(stream, ("stream",), scope)
        visit = (_identity(stream, ()), id(inner))
        if visit not in self._visited:
            self._visited.add(visit)
            self._mention(inner, self._names_in(stream))

    def _inner(self, holder: Object, place: _Id, outer: _Scope) -> _Scope:
        """The scope of a holder's content: its own if it has resources, else the surrounding one."""
        resources = holder.get("/Resources")
        if not isinstance(resources, Dictionary):
            return outer
        inner = self._scope(holder, resources, place)
        if inner is not outer and outer not in inner.outer:
            inner.outer.append(outer)
            self._mention(outer, tuple(inner.mentioned))
        return inner

    def _scope(self, holder: Object, resources: Dictionary, place: _Id) -> _Scope:
        identity = place if place[0] == "page" else _identity(holder, place)
        return self._scopes.setdefault(identity, _Scope(holder, resources))

    def _names_in(self, stream: Object) -> frozenset[str]:
        identity = _identity(stream, ())
        if identity not in self._names:
            self.repaired |= bool(repairs(self._pdf))
            if "LZW" in str(stream.get("/Filter", "")) and len(stream.read_raw_bytes()) > _MOST_LZW:
                raise _Unknown
            try:
                self._names[identity] = _names(stream.read_bytes())
            except (pikepdf.PdfError, RuntimeError, ValueError, MemoryError) as error:
                raise _Unknown from error
            if self._pdf.get_warnings():  # only partly decompressed; copied unchanged
                raise _Unknown
        return self._names[identity]


def _identity(holder: Object, place: _Id) -> _Id:
    return holder.objgen if holder.is_indirect else place


def _names(content: bytes) -> frozenset[str]:
    """All names in content, including lookalikes in its strings and pictures."""
    raw_names = set(_NAME.findall(content))
    return frozenset(
        "/" + _ESCAPED.sub(lambda code: bytes([int(code[1], 16)]), name).decode("utf-8", "surrogateescape")
        for name in raw_names
    )


def _annotations(page: Page) -> Iterator[Dictionary]:
    annotations = page.obj.get("/Annots")
    for annotation in annotations if isinstance(annotations, Array) else ():
        if isinstance(annotation, Dictionary):
            yield annotation


def _streams(appearances: Object | None) -> Iterator[Stream]:
    """The appearance streams of an annotation: one for each mode, or one for each state of a mode."""
    for value in _values(appearances):
        if isinstance(value, Stream):
            yield value
        else:
            yield from (state for state in _values(value) if isinstance(state, Stream))


def _values(entries: Object | None) -> Iterator[Object]:
    if isinstance(entries, Dictionary):
        yield from (entries[key] for key in entries.keys())  # noqa: SIM118  # no Python dictionary


def _prune(scope: _Scope) -> None:
    kept = copy.copy(scope.resources)
    changed = False
    for category in _CATEGORIES:
        entries = scope.resources.get(category)
        if not isinstance(entries, Dictionary):
            continue
        superfluous = set(entries.keys()) - scope.used.get(category, set())
        if superfluous:
            changed = True
            smaller = copy.copy(entries)
            for key in superfluous:
                del smaller[key]
            kept[category] = smaller
    if changed:
        scope.holder.Resources = kept
