"""Properties of an image file that are read without decoding: size, orientation, truncation.

Sources: ITU T.81 annex B (JPEG markers), the chunk layouts of the PNG and WebP specifications,
GIF89a section 18, Microsoft's BITMAPINFOHEADER, TIFF 6.0 section 2, BigTIFF, EXIF 2.3
(orientation, tag 0x0112).
"""

import re
from collections.abc import Iterator
from typing import Literal

JPEG, PNG, NPY = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"\x93NUMPY"
TIFF = (b"II*\0", b"MM\0*")
_TIFF_COLORS, _PALETTE, _GRAY = 262, 3, 1  # tag PhotometricInterpretation and two of its values
_JPEG_END, _JPEG_SCAN, _JPEG_EXIF, _JPEG_ADOBE = 0xD9, 0xDA, 0xE1, 0xEE
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Within a scan 0xff is followed by 0 (a stuffed byte) or by a restart marker; anything else is a
# marker.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
_JPEG_HUFFMAN = (0xC0, 0xC1, 0xC2)  # frames in which every block takes at least one bit
# A file of other segments alone would be searched for minutes, and a scan without data costs as
# much as one with.
_MAX_SEGMENTS, _MAX_SCANS = 10_000, 100
_MAX_ENTRIES = 4096  # of a TIFF's page; a BigTIFF can declare any number


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each marker with its payload, up to the end-of-image marker if there is one.

    Raises ValueError if there are more segments or scans than in any image.
    """
    position = len(JPEG)
    segments = scans = 0
    while match := _JPEG_MARKER.search(data, position):
        marker, start = match[1][0], match.end()
        position = start + int.from_bytes(data[start : start + 2], "big")
        segments, scans = segments + 1, scans + (marker == _JPEG_SCAN)
        if segments > _MAX_SEGMENTS or scans > _MAX_SCANS:
            raise ValueError(f"the JPEG has more than {_MAX_SCANS} scans or {_MAX_SEGMENTS} parts")
        yield marker, data[start + 2 : position]
        if marker == _JPEG_END:
            return


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each complete chunk up to IEND, and the start and end of its payload, which
    is preceded by the name and followed by a checksum of both.
    """
    start = len(PNG) + 8
    while len(data) >= start + 4:
        stop = start + int.from_bytes(data[start - 8 : start - 4], "big")
        if stop + 4 > len(data):
            return
        name = data[start - 4 : start]
        yield name, start, stop
        if name == b"IEND":
            return
        start = stop + 12


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name and payload of each chunk."""
    position = 12  # after RIFF, the file's length, and WEBP
    while len(data) >= position + 8:
        start = position + 8
        length = int.from_bytes(data[position + 4 : start], "little")
        yield data[position : position + 4], data[start : start + length]
        position = start + length + length % 2


def is_truncated(data: bytes) -> bool:
    """Return whether a JPEG or PNG has no end marker, or a JPEG less data than its size requires.

    Bytes after the marker are ignored.
    """
    if data.startswith(JPEG):
        blocks = 0
        for marker, payload in _jpeg_segments(data):
            if marker in _JPEG_HUFFMAN:
                blocks = _jpeg_blocks(payload)
            if marker == _JPEG_END:
                return 8 * len(data) < blocks
        return True
    return data.startswith(PNG) and all(name != b"IEND" for name, *_ in png_chunks(data))


def _jpeg_blocks(frame: bytes) -> int:
    """Return the number of blocks of 8 x 8 samples of all components of a JPEG frame."""
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    factors = [(byte >> 4, byte & 15) for byte in frame[7::3]]
    across, down = (max((f[axis] for f in factors), default=0) for axis in (0, 1))
    if not across or not down:
        return 0
    return sum(-(-width * x // (8 * across)) * -(-height * y // (8 * down)) for x, y in factors)


def is_lossy(data: bytes) -> bool:
    """Return whether the format changes pixel values: JPEG or lossy WebP."""
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    return data.startswith(JPEG) or (
        webp and any(name == b"VP8 " for name, _ in _webp_chunks(data))
    )


def is_bare_cmyk(data: bytes) -> bool:
    """Return whether a JPEG has four components and no Adobe marker: its inks are not inverted."""
    if not data.startswith(JPEG):
        return False
    components = 0
    for marker, payload in _jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            components = payload[5] if len(payload) > 5 else 0
        if marker == _JPEG_ADOBE and payload.startswith(b"Adobe"):
            return False
        if marker == _JPEG_SCAN:
            break
    return components == 4


def displayed_size(head: bytes) -> tuple[int, int] | None:
    """Return (height, width) as displayed, from a file's first bytes; None: decode the file."""
    size, orientation = None, 1
    if head.startswith(JPEG):
        size, orientation = _jpeg_header(head)
    elif head.startswith(PNG):
        size, orientation = _png_header(head)
    if size is None or 0 in size:
        return None
    return (size[1], size[0]) if orientation >= 5 else size


def declared_size(data: bytes) -> tuple[int, int] | None:
    """Return the stored (height, width) that a JPEG, PNG, GIF, BMP, WebP or TIFF declares; None for
    other formats and broken headers.
    """
    if data.startswith((JPEG, PNG)):
        return (_jpeg_header if data.startswith(JPEG) else _png_header)(data)[0]
    if data.startswith(b"GIF8"):
        return _uint(data[8:10]), _uint(data[6:8])
    if data.startswith(b"BM"):
        side = 2 if _uint(data[14:18]) == 12 else 4
        width, height = (
            int.from_bytes(data[at : at + side], "little", signed=True) for at in (18, 18 + side)
        )
        return abs(height), abs(width)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_size(data)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff_size(data)
    return None


def _uint(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X":
        return _uint(body[7:10]) + 1, _uint(body[4:7]) + 1
    if kind == b"VP8L":
        bits = _uint(body[1:5])
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    return (_uint(body[8:10]) & 0x3FFF, _uint(body[6:8]) & 0x3FFF) if kind == b"VP8 " else None


def _tiff_size(data: bytes) -> tuple[int, int] | None:
    """Return (height, width) of the first page."""
    found = {}
    for tag, kind, at in _tiff_entries(data):
        if tag in (256, 257):  # width, height, as SHORT, LONG or LONG8
            size = {3: 2, 4: 4, 16: 8}.get(kind, 0)
            found[tag] = int.from_bytes(data[at : at + size], _tiff_order(data))
    return (found[257], found[256]) if len(found) == 2 else None


def _tiff_entries(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the tag and the type of each entry of the first page, and the position of its value."""
    order = _tiff_order(data)
    word, count, entry = (8, 8, 20) if b"+" in data[2:4] else (4, 2, 12)
    start = int.from_bytes(data[word : 2 * word], order)
    for i in range(min(int.from_bytes(data[start : start + count], order), _MAX_ENTRIES)):
        at = start + count + entry * i
        tag, kind = (int.from_bytes(data[at + n : at + n + 2], order) for n in (0, 2))
        yield tag, kind, at + entry - word


def _tiff_order(data: bytes) -> Literal["little", "big"]:
    return "little" if data[:2] == b"II" else "big"


def without_palette(tiff: bytes) -> bytes:
    """Return a TIFF whose palette indices, if its first page has a palette, are gray values."""
    order = _tiff_order(tiff)
    for tag, _, at in _tiff_entries(tiff):
        if tag == _TIFF_COLORS and int.from_bytes(tiff[at : at + 2], order) == _PALETTE:
            return tiff[:at] + _GRAY.to_bytes(2, order) + tiff[at + 2 :]
    return tiff


def orientation_of(data: bytes) -> int:
    """Return the EXIF orientation, 1 to 8, of a JPEG, PNG or WebP; 1 for other formats."""
    if data.startswith(JPEG):
        return _jpeg_header(data)[1]
    if data.startswith(PNG):
        return _png_header(data)[1]
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return next((_orientation(part) for name, part in _webp_chunks(data) if name == b"EXIF"), 1)
    return 1


def _jpeg_header(head: bytes) -> tuple[tuple[int, int] | None, int]:
    orientation = 1
    for marker, payload in _jpeg_segments(head):
        if marker == _JPEG_EXIF and payload.startswith(b"Exif\0\0"):
            orientation = _orientation(payload[6:])
        if marker in _JPEG_FRAMES and len(payload) > 5:
            return (
                int.from_bytes(payload[1:3], "big"),
                int.from_bytes(payload[3:5], "big"),
            ), orientation
    return None, orientation


def _png_header(head: bytes) -> tuple[tuple[int, int] | None, int]:
    size, orientation = None, 1
    for name, start, stop in png_chunks(head):
        if name == b"IHDR":
            width, height = (head[at : min(at + 4, stop)] for at in (start, start + 4))
            size = int.from_bytes(height, "big"), int.from_bytes(width, "big")
        elif name == b"eXIf":
            orientation = _orientation(head[start:stop])
        elif name == b"IDAT":
            break
    return size, orientation


def _orientation(exif: bytes) -> int:
    """Read the EXIF orientation, 1 to 8; 1 if missing. 5 to 8 exchange rows and columns."""
    order = "little" if exif[:2] == b"II" else "big"
    start = int.from_bytes(exif[4:8], order)
    for i in range(int.from_bytes(exif[start : start + 2], order)):
        entry = exif[start + 2 + 12 * i : start + 14 + 12 * i]
        if int.from_bytes(entry[:2], order) == 0x0112:
            value = int.from_bytes(entry[8:10], order)
            return value if 1 <= value <= 8 else 1
    return 1
