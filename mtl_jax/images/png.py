"""Check a PNG file and reduce it to the chunks that determine its pixels.

libpng writes errors and warnings to stderr. A file that `clean` returns causes none.

Source: Portable Network Graphics, second edition, https://www.w3.org/TR/png.
"""

import zlib
from collections.abc import Iterator

from mtl_jax.images.headers import PNG, png_chunks

_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PALETTE, _FILTERS = 3, 5
_READ = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")  # the chunks that determine the pixels
_MAX_SIDE = 1_000_000  # of libpng
# Adam7: first column and row, and steps, of the pixels of each pass
_PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)


def clean(data: bytes, alpha: bool = False) -> bytes:
    """Return a PNG with the same pixels, with only the chunks IHDR, PLTE, IDAT and IEND, and with
    tRNS if `alpha`. Of an animation, the default image remains.

    Raises ValueError if a chunk or the pixels are missing or damaged.
    """
    palette = opacity = b""
    header, stream = b"", zlib.decompressobj()
    rows = bytearray()
    size = 0
    view = memoryview(data)
    for name, start, stop in png_chunks(data):
        if name not in _READ:
            continue
        payload = data[start:stop]
        if zlib.crc32(view[start - 4 : stop]) != int.from_bytes(data[stop : stop + 4], "big"):
            raise ValueError(f"the PNG is damaged (checksum of {name.decode()})")
        if name == b"IHDR":
            header, size = payload, _raw_size(payload)
        elif name == b"PLTE":
            palette = payload
        elif name == b"tRNS":
            opacity = payload
        elif name == b"IDAT":
            try:
                rows += stream.decompress(payload, size - len(rows)) if len(rows) < size else b""
            except zlib.error as error:
                raise ValueError(f"the PNG is damaged ({error})") from None
    if not header:
        raise ValueError("the PNG is damaged (it has no header)")
    if len(rows) < size:
        raise ValueError("the PNG is damaged (pixels are missing)")
    depth, color = header[8], header[9]
    if any(
        max(rows[start:stop:step], default=0) >= _FILTERS for start, stop, step in _lines(header)
    ):
        raise ValueError("the PNG is damaged (a row has an unknown filter)")
    parts = [(b"IHDR", header)]
    if color == _PALETTE:
        if not palette or len(palette) % 3:
            raise ValueError("the PNG is damaged (its palette)")
        parts.append((b"PLTE", palette[: 3 << depth].ljust(3 << depth, b"\0")))
    if (
        alpha
        and len(opacity) == {0: 2, 2: 6}.get(color, len(opacity))
        and color in (0, 2, _PALETTE)
    ):
        parts += [(b"tRNS", opacity[: 1 << depth if color == _PALETTE else 6])] if opacity else []
    # Stored without compression, which OpenCV reads quickly.
    stored = zlib.compress(rows, 0)
    del rows  # large images exist at most twice at a time
    parts += [(b"IDAT", stored), (b"IEND", b"")]
    del stored
    return b"".join((PNG, *(piece for name, payload in parts for piece in _chunk(name, payload))))


def _chunk(name: bytes, payload: bytes) -> tuple[bytes, ...]:
    checksum = zlib.crc32(payload, zlib.crc32(name))
    return len(payload).to_bytes(4, "big"), name, payload, checksum.to_bytes(4, "big")


def _passes(header: bytes) -> Iterator[tuple[int, int]]:
    """Yield the number of rows of each pass, and the bytes of a row with its filter."""
    width, height = (int.from_bytes(header[i : i + 4], "big") for i in (0, 4))
    bits = header[8] * _SAMPLES[header[9]]
    for x, y, step_x, step_y in _PASSES if header[12] else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // step_x), -(-(height - y) // step_y)
        if columns > 0 and rows > 0:
            yield rows, 1 + (columns * bits + 7) // 8


def _raw_size(header: bytes) -> int:
    """Return the number of bytes before compression. Raises ValueError if the header is invalid."""
    if len(header) != 13 or header[8] not in _DEPTHS.get(header[9], ()) or header[12] > 1:
        raise ValueError("the PNG is damaged (its header)")
    width, height = (int.from_bytes(header[i : i + 4], "big") for i in (0, 4))
    if header[10] or header[11] or not width or not height:
        raise ValueError("the PNG is damaged (its header)")
    if max(width, height) > _MAX_SIDE:
        raise ValueError(
            f"the PNG is {width} x {height}; a side is limited to {_MAX_SIDE:,} pixels"
        )
    return sum(rows * length for rows, length in _passes(header))


def _lines(header: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield start, stop and step of the positions of each pass's filters."""
    start = 0
    for rows, length in _passes(header):
        yield start, start + rows * length, length
        start += rows * length
