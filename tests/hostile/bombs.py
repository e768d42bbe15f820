"""Documents that somebody made to hurt whoever opens them."""

import io
import random
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class Member:
    """A member of a zip archive, and what its headers claim of it where that is not true."""

    name: bytes
    data: bytes = b""
    stored: bool = False
    flags: int = 0
    packed: bytes | None = None
    length: int | None = None
    packed_length: int | None = None
    method: int | None = None
    extra: bytes = b""
    offset: int | None = None


def archive(members: Sequence[Member], *, count: int | None = None, directory: int | None = None) -> bytes:
    """A zip archive of the members, with the claims they make; count and directory size may be claims, too."""
    out, entries = io.BytesIO(), []
    for member in members:
        packer = zlib.compressobj(9, wbits=-15)
        packed = member.packed
        if packed is None:
            packed = member.data if member.stored else packer.compress(member.data) + packer.flush()
        method = member.method if member.method is not None else 0 if member.stored else 8
        length = len(member.data) if member.length is None else member.length
        claims = struct.pack(
            "<HHHHHIIIHH", 20, member.flags, method, 0, 33, zlib.crc32(member.data),
            len(packed) if member.packed_length is None else member.packed_length, length, len(member.name),
            len(member.extra),
        )  # fmt: skip
        place = out.tell() if member.offset is None else member.offset
        entries.append(b"PK\1\2\x14\0" + claims + struct.pack("<HHHII", 0, 0, 0, 0, place) + member.name + member.extra)
        out.write(b"PK\3\4" + claims + member.name + member.extra + packed)
    place, table = out.tell(), b"".join(entries)
    number = len(entries) if count is None else count
    out.write(table)
    size = len(table) if directory is None else directory
    out.write(b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, number & 0xFFFF, number & 0xFFFF, size, place, 0))
    return out.getvalue()


WORD_TYPES = b'<Types><Override ContentType="application/vnd...wordprocessingml.document.main+xml"/></Types>'
WORD = (Member(b"[Content_Types].xml", WORD_TYPES), Member(b"word/document.xml", b"<w:document/>"))


def crowded_archive(members: int) -> bytes:
    """A Word document with any number of members that are nothing but entries of the directory."""
    whole = archive([*WORD, Member(b"x")])
    start = whole.rindex(b"PK\1\2")
    end = whole.rindex(b"PK\5\6")
    place = int.from_bytes(whole[end + 16 : end + 20], "little")
    table = whole[place:end] + whole[start:end] * members
    return whole[:place] + table + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, len(table), place, 0)


def zip64_end(whole: bytes, size: int, place: int, locator: int, count: int) -> bytes:
    """An archive whose end says that the true numbers are in its zip64 records; these say anything."""
    end = whole.rindex(b"PK\5\6")
    record = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, size, place)
    pointer = b"PK\6\7" + struct.pack("<IQI", 0, locator, 1)
    return whole[:end] + record + pointer + b"PK\5\6" + b"\xff" * 16 + b"\0\0"


def odd_archives() -> Iterator[bytes]:
    """Archives that no program writes: the directory, or the members, cannot be as they claim."""
    huge, whole = 0xFFFFFFFF, archive(WORD)
    place = int.from_bytes(whole[-6:-2], "little")
    yield archive(WORD, count=65535)
    yield archive(WORD, count=0)
    for size in (0, 1, 46, 10**6, 2**31, huge - 1):
        yield archive(WORD, directory=size)
    for size, start, locator, count in (
        (2**63, 0, 0, 2**63), (2**40, place, len(whole) - 22, 1), (2**64 - 1, 2**64 - 1, 2**64 - 1, 2**64 - 1),
        (0, 0, len(whole) - 22, 10**18), (len(whole), 0, len(whole) - 22, 3), (1, 2**63, len(whole) - 22, 1),
    ):  # fmt: skip
        yield zip64_end(whole, size, start, locator, count)
    types = WORD[0]
    for claim in (0, 1, 2**31, huge):
        yield archive([replace(types, length=claim), WORD[1]])
        yield archive([replace(types, packed_length=claim), WORD[1]])
        yield archive([replace(types, offset=claim), WORD[1]])
    for extra in (b"\1\0\x20\0" + b"\xff" * 32, b"\1\0\xff\xff", b"\1\0\0\0", b"\1\0\1\0\xff", b"up\1\0\0"):
        yield archive([replace(types, length=huge, packed_length=huge, offset=huge, extra=extra), WORD[1]])
    for flags in (1, 8, 0x20, 0x40, 0x2041, 0xFFFF):
        yield archive([replace(types, flags=flags), WORD[1]])
    for method in (1, 6, 9, 12, 14, 93, 95, 98, 99, 65535):
        yield archive([replace(types, method=method), WORD[1]])
    yield archive([*WORD, *WORD])
    yield archive([WORD[0]] + [replace(WORD[0], offset=0)] * 1000)
    for name in (b"../../../etc/passwd", b"/etc/passwd", b"C:\\x", b"a\0b", b"\xff\xfe", b"", b"x" * 65535):
        yield archive([*WORD, Member(name, b"x")])
        yield archive([Member(name, b"x"), *WORD])
        yield archive([Member(b"[Content_Types].xml\0" + name[:99], WORD_TYPES)])
    yield whole + b"x" * 70_000
    yield b"PK\3\4" + b"PK\5\6" + bytes(18)
    yield b"PK\3\4" + b"PK\5\6" * 20_000
    yield whole * 3


def endless_nothing(megabytes: int) -> bytes:
    """Blocks of packed data that hold nothing: reading any of it means reading all of it."""
    empty = b"\0\0\0\xff\xff" * (megabytes * (1 << 20) // 5)
    return archive([Member(b"[Content_Types].xml", packed=empty, length=1 << 30), WORD[1]])


def swollen(name: bytes, megabytes: int, head: bytes = b"", *, alone: bool = False) -> bytes:
    """A Word document with a member that inflates to so much, of blanks."""
    packer, blanks = zlib.compressobj(1, wbits=-15), b" " * (1 << 20)
    packed = packer.compress(head) + b"".join(packer.compress(blanks) for _ in range(megabytes)) + packer.flush()
    length = min(len(head) + (megabytes << 20), 0xFFFFFFFF)
    others = [] if alone else [member for member in WORD if member.name != name]
    return archive([Member(name, packed=packed, length=length), *others])


_OLE_FREE, _OLE_END = 0xFFFFFFFF, 0xFFFFFFFE


def ole_header(**fields: int) -> bytes:
    """The header of a compound file that claims anything."""
    given = {
        "version": 3, "shift": 9, "directories": 0, "fats": 1, "directory": 1, "mini": _OLE_END, "minis": 0,
        "difat": _OLE_END, "difats": 0, "fat": 0,
    } | fields  # fmt: skip
    return (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16)
        + struct.pack("<5H6x", 62, given["version"], 0xFFFE, given["shift"], 6)
        + struct.pack("<5I", given["directories"], given["fats"], given["directory"], 0, 4096)
        + struct.pack("<4I", given["mini"], given["minis"], given["difat"], given["difats"])
        + struct.pack("<109I", given["fat"], *[_OLE_FREE] * 108)
    ).ljust(1 << given["shift"], b"\0")  # fmt: skip


def ole_entry(name: str, kind: int, links: tuple[int, int, int], start: int = _OLE_END, size: int = 0) -> bytes:
    """An entry of a compound file's directory: left, right and child are numbers of entries."""
    encoded = (name + "\0").encode("utf-16-le")
    return struct.pack("<64sHBB3I36xIQ", encoded, len(encoded), kind, 1, *links, start, size)


def ole_fat(*chain: int, sector: int = 512) -> bytes:
    """A sector of the table that says which sector follows which."""
    return struct.pack(f"<{len(chain)}I", *chain).ljust(sector, b"\xff")


def ole_fat_bomb() -> bytes:
    """A compound file of 3 KB that claims 2^31 sectors of table, which lie on the same sector, in a ring."""
    fats = 1 << 31
    ring = struct.pack("<128I", *[0] * 127, 2)
    header = ole_header(fats=fats, difat=2, difats=(fats - 109 + 126) // 127)
    return header + ole_fat(0xFFFFFFFD, _OLE_END) + ole_entry("Root Entry", 5, (_OLE_FREE,) * 3) * 4 + ring * 3


def ole_directory_ring(megabytes: int) -> bytes:
    """A directory that follows itself, in a file of any size: one may read as much as the file is long."""
    sectors = megabytes * 2048
    fats = -(-(sectors + 1) // 128)
    table = struct.pack(f"<{fats * 128}I", *[1] * (fats * 128))
    header = bytearray(ole_header(fats=min(fats, 109), directory=1))
    for number in range(min(fats, 109)):
        struct.pack_into("<I", header, 76 + 4 * number, sectors + number)
    root = ole_entry("Root Entry", 5, (_OLE_FREE, _OLE_FREE, 1)) + ole_entry("FileHeader", 2, (_OLE_FREE,) * 3, 1, 9999)
    return bytes(header) + root.ljust(512, b"\0") * sectors + table


def ole_stream_ring(size: int, name: str = "FileHeader") -> bytes:
    """A stream that claims any size, on a sector that follows itself."""
    root = ole_entry("Root Entry", 5, (_OLE_FREE, _OLE_FREE, 1))
    entries = root + ole_entry(name, 2, (_OLE_FREE,) * 3, 1, size)
    directory = entries.ljust(4096, b"\0")
    return ole_header(version=4, shift=12, directory=2, directories=1) + ole_fat(0xFFFFFFFD, 1, _OLE_END,
        sector=4096) + b"HWP Document File".ljust(4096, b"\0") + directory  # fmt: skip


def ole_directory(entries: Sequence[bytes]) -> bytes:
    """A compound file of a directory alone."""
    data = b"".join(entries)
    sectors = -(-len(data) // 4096)
    fats = -(-(sectors * 2) // 1024)
    chain = [0xFFFFFFFD] * fats + [*range(fats + 1, fats + sectors), _OLE_END]
    header = bytearray(ole_header(version=4, shift=12, directory=fats, fats=fats, directories=sectors))
    for number in range(fats):
        struct.pack_into("<I", header, 76 + 4 * number, number)
    return bytes(header) + ole_fat(*chain, sector=4096 * fats) + data.ljust(sectors * 4096, b"\0")


def ole_chain(entries: int) -> bytes:
    """Streams of which each hangs on the one before: walking them goes as deep."""
    root = ole_entry("Root Entry", 5, (_OLE_FREE, _OLE_FREE, 1))
    return ole_directory(
        [root, *(ole_entry(f"s{n}", 2, (_OLE_FREE, n + 1 if n < entries else _OLE_FREE, _OLE_FREE)) for n in
                 range(1, entries + 1))]
    )  # fmt: skip


def ole_crowd(entries: int) -> bytes:
    """So many streams, in a tree as balanced as it should be, each of which claims a place of its own."""

    def links(number: int) -> tuple[int, int, int]:
        left, right = 2 * number, 2 * number + 1
        return (left if left <= entries else _OLE_FREE, right if right <= entries else _OLE_FREE, _OLE_FREE)

    root = ole_entry("Root Entry", 5, (_OLE_FREE, _OLE_FREE, 1))
    return ole_directory([root, *(ole_entry(f"s{n}", 2, links(n), 10**6 + n, 5000) for n in range(1, entries + 1))])


def odd_compounds() -> Iterator[bytes]:
    """Compound files that lead round, or nowhere."""
    free = (_OLE_FREE,) * 3
    for links in ((0, 0, 0), (1, 1, 1), (_OLE_FREE, _OLE_FREE, 0), (2, 3, 1), (99, 99, 99), (2**31, 5, 2**32 - 2)):
        yield ole_directory([ole_entry("Root Entry", 5, links)] + [ole_entry(f"s{n}", 1, links) for n in range(3)])
    for size in (0, 1, 4095, 4096, 10**6, 2**31, 2**32, 2**40, 2**63, 2**64 - 1):
        yield ole_stream_ring(size)
        yield ole_stream_ring(size, "EncryptedPackage")
        yield ole_directory([ole_entry("Root Entry", 5, (_OLE_FREE, _OLE_FREE, 1), 1, size),
                             ole_entry("FileHeader", 2, free, 0, 256)])  # fmt: skip
    for value in (0, 1, 3, 10**6, 2**31, 2**32 - 1):
        for field in ("fats", "directory", "directories", "mini", "minis", "difat", "difats", "fat"):
            yield ole_header(**{field: value}) + ole_fat(0xFFFFFFFD, _OLE_END) + ole_entry("Root Entry", 5, free) * 4
    for shift in (0, 1, 9, 12, 16, 31, 65535):
        yield ole_header()[:30] + struct.pack("<H", shift) + ole_header()[32:] + bytes(4096)


def summary(kind: int, value: int, count: int = 1, number: int = 14, offset: int = 16) -> bytes:
    """A stream of properties with one that claims to be of any kind and value; or to be more than one."""
    section = struct.pack("<IIII", 24, count, number, offset) + struct.pack("<II", kind, value)
    return struct.pack("<HHI16sI", 0xFFFE, 0, 0, bytes(16), 1) + bytes(16) + struct.pack("<I", 48) + section


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def _full(kind: bytes, body: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags) + body)


def heic_items(count: int, kind: bytes = b"hvc1", references: Mapping[int, Sequence[int]] | None = None,
               size: tuple[int, int] = (64, 64), claimed: int | None = None) -> bytes:  # fmt: skip
    """A HEIC file that says it has so many pictures, none of which is there; some may be made of others."""
    infos = b"".join(_full(b"infe", struct.pack(">HH", n, 0) + kind + b"\0", 2) for n in range(1, count + 1))
    places = b"".join(struct.pack(">HHHII", n, 0, 1, 8, 8) for n in range(1, count + 1))
    config = bytes([1, 3]) + bytes(11) + b"\xf0\0\xfc\xfd\xf8\xf8\0\0\x0f\0"
    boxes = _box(b"ipco", _full(b"ispe", struct.pack(">II", *size)) + _box(b"hvcC", config))
    links = b"".join(struct.pack(">HBBB", n, 2, 0x81, 0x82) for n in range(1, count + 1))
    said = count if claimed is None else claimed
    meta = [
        _full(b"hdlr", struct.pack(">I4s12xx", 0, b"pict")),
        _full(b"pitm", struct.pack(">H", 1)),
        _full(b"iinf", struct.pack(">H", said & 0xFFFF) + infos),
        _full(b"iloc", struct.pack(">BBH", 0x44, 0, said & 0xFFFF) + places),
        _box(b"iprp", boxes + _full(b"ipma", struct.pack(">I", count) + links)),
    ]
    if references:
        meta.append(_full(b"iref", b"".join(
            _box(b"dimg", struct.pack(f">HH{len(to)}H", source, len(to), *to)) for source, to in references.items()
        )))  # fmt: skip
    return _box(b"ftyp", b"heic\0\0\0\0mif1heic") + _full(b"meta", b"".join(meta)) + _box(b"mdat", bytes(64))
