"""Reads the size and pixel format of BMP and JPEG pictures from their headers, without decoding."""

import struct
from dataclasses import dataclass
from typing import BinaryIO

_BMP_HEADER = 14 + 124  # bytes; the longest one
_BMP_CORE, _BMP_LENGTHS = 12, (12, 16, 40, 52, 56, 64, 108, 124)
_BMP_BITS = (1, 2, 4, 8, 16, 24, 32, 64)
_RAW, _BITFIELDS, _ALPHA_BITFIELDS = 0, 3, 6
_BMP_PACKED = {1: "run lengths", 2: "run lengths", 4: "JPEG", 5: "PNG"}
# The 16-bit and 32-bit masks that most programs support.
_COMMON_MASKS = {
    (0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F),
    (0xFF0000, 0xFF00, 0xFF), (0xFF, 0xFF00, 0xFF0000), (0xFF000000, 0xFF0000, 0xFF00), (0xFF00, 0xFF0000, 0xFF000000),
}  # fmt: skip
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of tables, not frames
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length
_MOST_SEGMENTS = 10_000


@dataclass(frozen=True)
class Picture:
    """The header of a picture.

    Attributes:
        width: in pixels.
        height: in pixels.
        unusual: its pixel format, if few programs decode it; otherwise empty.
    """

    width: int
    height: int
    unusual: str


def read_bmp(content: BinaryIO) -> Picture:
    """Read the header of a BMP.

    Raises:
        ValueError: the header is missing or gives no size.
    """
    header = content.read(_BMP_HEADER)
    if header[:2] != b"BM" or len(header) < 14 + _BMP_CORE:
        raise ValueError("it has no readable header")
    length = struct.unpack_from("<I", header, 14)[0]
    if length not in _BMP_LENGTHS or (length != _BMP_CORE and len(header) < 14 + 16):
        raise ValueError("it has no readable header")
    packed, masks = _RAW, (0, 0, 0)
    if length == _BMP_CORE:
        width, height, bits = struct.unpack_from("<HH2xH", header, 18)
    else:
        width, height, bits = struct.unpack_from("<ii2xH", header, 18)
        if length > 16 and len(header) >= 34:
            packed = struct.unpack_from("<I", header, 30)[0]
        if len(header) >= 66:
            masks = struct.unpack_from("<III", header, 54)
    height = abs(height)  # negative if rows run from top to bottom
    if width <= 0 or height <= 0:
        raise ValueError("it has no size")
    if bits not in _BMP_BITS and packed not in (4, 5):
        raise ValueError("it has no readable header")
    return Picture(width, height, _unusual_bmp(bits, packed, masks))


def _unusual_bmp(bits: int, packed: int, masks: tuple[int, int, int]) -> str:
    if packed in (4, 5):
        return f"{_BMP_PACKED[packed]} within BMP"
    if packed in (_BITFIELDS, _ALPHA_BITFIELDS) and masks not in _COMMON_MASKS:
        return f"{bits} bits with custom masks"
    return f"{bits} bits" if bits in (2, 64) else ""


def read_jpeg(content: BinaryIO) -> Picture:
    """Read the frame header of a JPEG of any process, including 12-bit, lossless and arithmetic coding.

    Raises:
        ValueError: the header is missing or gives no size.
    """
    if content.read(2) != b"\xff\xd8":
        raise ValueError("it has no readable header")
    for _ in range(_MOST_SEGMENTS):
        marker = content.read(2)
        if marker == b"\xff\xff":  # a fill byte
            content.seek(-1, 1)
            continue
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] in (0xD9, 0xDA):
            break
        if marker[1] in _ALONE:
            continue
        length = int.from_bytes(content.read(2), "big")
        if length < 2:
            break
        if marker[1] in _FRAME_MARKERS:
            frame = content.read(5)
            if len(frame) < 5:
                break
            bits, height, width = struct.unpack(">BHH", frame)
            if not (width and height):
                raise ValueError("it has no size")
            return Picture(width, height, f"{bits} bits, process {marker[1] - 0xC0}")
        content.seek(length - 2, 1)
    raise ValueError("it has no readable header")
