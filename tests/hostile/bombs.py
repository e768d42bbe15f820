"""Documents that somebody made to hurt whoever opens them."""

import io
import random
import struct
import zlib
from collections.abc import Iterator, Mapping

_CATALOG = b"<</Type/Catalog/Pages 2 0 R>>"
_PAGE = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]"


def pdf(objects: Mapping[int, bytes], trailer: bytes = b"") -> bytes:
    """A PDF of the objects, object 1 its root, with a correct table."""
    out, places = io.BytesIO(), {}
    out.write(b"%PDF-1.7\n")
    for number, body in objects.items():
        places[number] = out.tell()
        out.write(b"%d 0 obj\n" % number + body + b"\nendobj\n")
    table, size = out.tell(), max(objects) + 1
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % size)
    for number in range(1, size):
        out.write(b"%010d 00000 n \n" % places[number] if number in places else b"0000000000 00000 f \n")
    out.write(b"trailer <</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF\n" % (size, trailer, table))
    return out.getvalue()


def stream(entries: bytes, data: bytes) -> bytes:
    """A stream object."""
    return b"<<%s/Length %d>>\nstream\n%s\nendstream" % (entries, len(data), data)


def inflating(megabytes: int, head: bytes = b"", fill: bytes = b" ") -> bytes:
    """Few bytes that inflate to many."""
    packer, block = zlib.compressobj(1), fill * (1 << 20)
    return b"".join([packer.compress(head), *(packer.compress(block) for _ in range(megabytes)), packer.flush()])


def one_page(more: bytes = b"", others: Mapping[int, bytes] | None = None, count: int = 1) -> bytes:
    """A PDF of one page with entries of its own, and other objects from 4 on."""
    tree = b"<</Type/Pages/Kids[3 0 R]/Count %d>>" % count
    return pdf({1: _CATALOG, 2: tree, 3: _PAGE + more + b">>", **(others or {})})


def content_bomb(megabytes: int, filters: bytes = b"/FlateDecode", times: int = 1, hexed: bool = False) -> bytes:
    """A page whose content, and whose form, inflate to hundreds of MB; packed several times over, to more."""
    data = inflating(megabytes)
    for _ in range(times - 1):
        data = zlib.compress(data, 9)
    if hexed:
        data = data.hex().encode() + b">"
    form = b"/Type/XObject/Subtype/Form/BBox[0 0 1 1]/Resources<</XObject<</A 6 0 R>>>>/Filter " + filters
    page = b"/Contents 4 0 R/Resources<</XObject<</A 5 0 R>>/Font<</B 6 0 R>>>>"
    return one_page(page, {4: stream(b"/Filter " + filters, data), 5: stream(form, data), 6: b"<</Type/Font>>"})


def _entry(kind: int, place: int, index: int) -> bytes:
    return struct.pack(">BIB", kind, place, index)


def object_bomb(megabytes: int) -> bytes:
    """A PDF whose structure lies in a stream that inflates to hundreds of MB."""
    bodies = [_CATALOG.ljust(40), b"<</Type/Pages/Kids[3 0 R]/Count 1>>".ljust(40), _PAGE + b">>"]
    head = b"1 0 2 40 3 80 "
    out = io.BytesIO(b"%PDF-1.7\n")
    out.seek(0, io.SEEK_END)
    place = out.tell()
    entries = b"/Type/ObjStm/N 3/First %d/Filter/FlateDecode" % len(head)
    out.write(b"4 0 obj\n" + stream(entries, inflating(megabytes, head + b"".join(bodies))) + b"\nendobj\n")
    table = out.tell()
    rows = [(0, 0, 0), (2, 4, 0), (2, 4, 1), (2, 4, 2), (1, place, 0), (1, table, 0)]
    data = b"".join(_entry(*row) for row in rows)
    out.write(b"5 0 obj\n" + stream(b"/Type/XRef/Size 6/W[1 4 1]/Root 1 0 R", data) + b"\nendobj\n")
    out.write(b"startxref\n%d\n%%%%EOF\n" % table)
    return out.getvalue()


def table_bomb(megabytes: int) -> bytes:
    """A PDF whose table of objects inflates to hundreds of MB."""
    out, places = io.BytesIO(), []
    out.write(b"%PDF-1.7\n")
    for number, body in enumerate([_CATALOG, b"<</Type/Pages/Kids[3 0 R]/Count 1>>", _PAGE + b">>"], 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n" % number + body + b"\nendobj\n")
    table = out.tell()
    data = _entry(0, 0, 0) + b"".join(_entry(1, place, 0) for place in [*places, table])
    packed = inflating(megabytes, data, b"\0")
    out.write(
        b"4 0 obj\n" + stream(b"/Type/XRef/Size 5/W[1 4 1]/Root 1 0 R/Filter/FlateDecode", packed) + b"\nendobj\n"
    )
    out.write(b"startxref\n%d\n%%%%EOF\n" % table)
    return out.getvalue()


def lzw_bomb(rounds: int) -> bytes:
    """A page whose content inflates by the one method that the library has no bound for; 7 MB a round."""
    bits, length, out = 0, 0, bytearray()
    for number in range(rounds):
        # Each code stands for one blank more than the one before, until the table is full and begins anew.
        codes = [(256, 12 if number else 9), (32, 9)]
        codes += [(code, max(9, (code + 1).bit_length())) for code in range(258, 4000)]
        for code, width in [*codes, (257, 12)] if number == rounds - 1 else codes:
            bits, length = bits << width | code, length + width
            while length >= 8:
                length -= 8
                out.append(bits >> length & 255)
            bits &= (1 << length) - 1
    out.append(bits << (8 - length) & 255)
    content = stream(b"/Filter/LZWDecode", bytes(out))
    return one_page(b"/Contents 4 0 R/Resources<</XObject<</A 5 0 R>>>>", {4: content, 5: b"<</Type/X>>"})


def image_bomb(megabytes: int) -> bytes:
    """A page with a picture that would inflate to hundreds of MB: nobody here has to look into it."""
    picture = b"/Type/XObject/Subtype/Image/Width 20000/Height 10000/BitsPerComponent 8/ColorSpace/DeviceRGB"
    data = stream(picture + b"/Filter/FlateDecode", inflating(megabytes, fill=b"\0"))
    return one_page(b"/Resources<</XObject<</I 4 0 R>>>>/Contents 5 0 R", {4: data, 5: stream(b"", b"/I Do")})


def chained(links: int) -> bytes:
    """A page on which a list of many objects hangs, each naming the next: copying them goes as deep."""
    others = {number: b"<</N %d 0 R>>" % (number + 1) for number in range(4, 4 + links)}
    return one_page(b"/X 4 0 R", {**others, 4 + links: b"null"})


def looping_trees() -> Iterator[bytes]:
    """Page trees that lead back into themselves, or share their branches."""
    page = _PAGE + b">>"
    for kids in (b"3 0 R 2 0 R", b"2 0 R", b"4 0 R", b"3 0 R 3 0 R", b"1 0 R", b"9 0 R", b"null", b"3 0 R 4 0 R 4 0 R"):
        tree = b"<</Type/Pages/Kids[%s]/Count 2>>" % kids
        yield pdf({1: _CATALOG, 2: tree, 3: page, 4: b"<</Type/Pages/Parent 2 0 R/Kids[2 0 R]/Count 1>>"})
    for width, depth in ((10, 6), (10, 20), (1, 20_000), (2, 400)):
        laughs = {number: b"<</Type/Pages/Count 9/Kids[%s]>>" % (b"%d 0 R " % (number + 1) * width) for number in
                  range(2, 2 + depth)}  # fmt: skip
        yield pdf({1: _CATALOG, **laughs, 2 + depth: page})
    yield pdf({1: b"<</Type/Catalog/Pages 1 0 R/Kids[1 0 R]>>"})
    yield pdf({1: b"1 0 R"})
    yield pdf({1: b"2 0 R", 2: b"1 0 R"})
    yield pdf({1: _CATALOG, 2: b"[2 0 R]"})
    yield pdf({1: _CATALOG, 2: b"<</Type/Pages/Kids 2 0 R>>"})


def odd_structures() -> Iterator[bytes]:
    """Tables, lengths and nesting that lead nowhere, or round and round."""
    for depth in (100, 600, 50_000):
        yield one_page(b"/X " + b"[" * depth + b"]" * depth)
        yield one_page(b"/X " + b"<</a" * depth + b">>" * depth)
        yield one_page(b"/X " + b"(" * depth + b")" * depth)
    yield pdf({1: _CATALOG, 2: b"<</Type/Pages/Kids[3 0 R]/Count 1>>", 3: _PAGE + b">>"}, b"/Prev 0")
    whole = one_page()
    table = whole.rindex(b"xref\n0")
    yield pdf({1: _CATALOG, 2: b"<</Type/Pages/Kids[3 0 R]/Count 1>>", 3: _PAGE + b">>"}, b"/Prev %d" % table)
    yield whole.replace(b"/Size 4", b"/Size 99999999999999999999")
    yield whole.replace(b"/Size 4", b"/Size -1")
    yield whole.replace(b"xref\n0 4", b"xref\n0 999999999")
    yield whole.replace(b"startxref\n", b"startxref\n99999999999999999999999")
    yield one_page(b"/Contents 4 0 R", {4: b"<</Length 4 0 R>>\nstream\nendstream"})
    yield one_page(b"/Contents 4 0 R", {4: b"<</Length 99999999999>>\nstream\nx\nendstream"})
    yield one_page(b"/Contents 4 0 R", {4: stream(b"/Filter[" + b"/FlateDecode" * 5000 + b"]", b"x")})
    predictor = b"/Filter/FlateDecode/DecodeParms<</Predictor 15/Columns 2147483647/Colors 99/BitsPerComponent 99>>"
    yield one_page(b"/Contents 4 0 R", {4: stream(predictor, zlib.compress(b"x" * 100))})
    yield b"%PDF-1.7\n" + b"1 0 obj\n" * 50_000
    yield b"%PDF-1.7\n" + b"xref\n0 1\ntrailer\n" * 20_000
    yield b"%PDF-1.7\n" + b"9" * 500_000
    yield b"%PDF-1.7\nstartxref\n9\n%%EOF" * 5000


def tiff(frames: int, loop: int | None = None, size: tuple[int, int] = (8, 8), entries: int | None = None) -> bytes:
    """Frames that share one strip of eight bytes; the last may lead back to an earlier one."""
    out = bytearray(b"II*\0" + struct.pack("<I", 16) + bytes(8))
    fields = [
        (256, 4, size[0]), (257, 4, size[1]), (258, 3, 1), (259, 3, 1), (262, 3, 0),
        (273, 4, 8), (277, 3, 1), (278, 4, size[1]), (279, 4, 8),
    ]  # fmt: skip
    length = 2 + 12 * len(fields) + 4
    for number in range(frames):
        following = 16 + (number + 1) * length
        if number == frames - 1:
            following = 0 if loop is None else 16 + loop * length
        out += struct.pack("<H", len(fields) if entries is None else entries)
        out += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in fields)
        out += struct.pack("<I", following)
    return bytes(out)


def picture_header(kind: str, width: int, height: int) -> bytes:
    """Nothing but a header that claims a size."""
    if kind == "PNG":
        chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
        end = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
        return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + end
    if kind == "BMP":
        return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    if kind == "TIFF":
        return tiff(1, size=(width, height))
    frame = struct.pack(">BHHB", 8, height, width, 3) + bytes([1, 17, 0, 2, 17, 0, 3, 17, 0])
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xda\x00\x02\xff\xd9"


def text_bomb(megabytes: int) -> bytes:
    """A PNG with a comment that inflates to hundreds of MB."""
    whole = picture_header("PNG", 8, 8)
    chunk = b"zTXtComment\0\0" + inflating(megabytes)
    packed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return whole[:33] + packed + whole[33:]


def noise(seed: int, length: int) -> bytes:
    """Bytes that are the same every time."""
    return random.Random(seed).randbytes(length)
