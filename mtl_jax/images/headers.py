"""Properties of an image file that are read without decoding: size, orientation, truncation.

Sources: ITU T.81 annex B (JPEG markers), the chunk layouts of the PNG and WebP specifications,
EXIF 2.3 (orientation, tag 0x0112).
"""

import re
from collections.abc import Iterator

JPEG, PNG, NPY = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"\x93NUMPY"
_JPEG_END, _JPEG_SCAN, _JPEG_EXIF, _JPEG_ADOBE = 0xD9, 0xDA, 0xE1, 0xEE
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Within a scan 0xff is followed by 0 (a stuffed byte) or by a restart marker; anything else is a
# marker.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each marker with its payload, up to the end-of-image marker if there is one."""
    position = len(JPEG)
    while match := _JPEG_MARKER.search(data, position):
        marker, start = match[1][0], match.end()
        position = start + int.from_bytes(data[start : start + 2], "big")
        yield marker, data[start + 2 : position]
        if marker == _JPEG_END:
            return


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name and payload of each complete chunk."""
    position = len(PNG)
    while len(data) >= position + 12:
        length = int.from_bytes(data[position : position + 4], "big")
        start = position + 8
        position = start + length + 4
        if position > len(data):
            return
        yield data[start - 4 : start], data[start : start + length]


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name and payload of each chunk."""
    position = 12  # after RIFF, the file's length, and WEBP
    while len(data) >= position + 8:
        start = position + 8
        length = int.from_bytes(data[position + 4 : start], "little")
        yield data[position : position + 4], data[start : start + length]
        position = start + length + length % 2


def is_truncated(data: bytes) -> bool:
    """Return whether a JPEG or PNG has no end marker; bytes after the marker are ignored."""
    if data.startswith(JPEG):
        return all(marker != _JPEG_END for marker, _ in _jpeg_segments(data))
    return data.startswith(PNG) and all(name != b"IEND" for name, _ in _png_chunks(data))


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


def orientation_of(data: bytes) -> int:
    """Return the EXIF orientation, 1 to 8, of a PNG or WebP; 1 for other formats."""
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
    for name, payload in _png_chunks(head):
        if name == b"IHDR":
            size = int.from_bytes(payload[4:8], "big"), int.from_bytes(payload[:4], "big")
        elif name == b"eXIf":
            orientation = _orientation(payload)
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
