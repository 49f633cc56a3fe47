"""Limits on images: their pixels, the size of their files, and the memory of their decoding."""

import io
import os
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
import scripts
from mistakes import refused
from PIL import Image

from mtl_jax.images import headers
from mtl_jax.images.decode import decode, image_size
from mtl_jax.images.limits import DEFAULT, VARIABLE, max_pixels

KINDS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "JPEG2000", "AVIF", "PPM")
NATIVE = KINDS[:6]  # formats whose size is read here, before OpenCV


def encoded(kind: str, height: int, width: int, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 7, np.uint8)).save(file, kind, **options)
    return file.getvalue()


def limited(code: str, limit: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new process with a limit on pixels, which OpenCV reads when it is loaded."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, VARIABLE: str(limit), "PYTHONPATH": str(scripts.ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("kind", NATIVE)
@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"progressive": True}])
def test_the_declared_size_is_that_of_the_pixels(kind, options):
    assert headers.declared_size(encoded(kind, 21, 34, **options)) == (21, 34)


def test_the_declared_size_of_animations_and_big_tiffs_is_known():
    more = dict(save_all=True, append_images=[Image.new("RGB", (34, 21))])
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        assert headers.declared_size(encoded(kind, 21, 34, **more)) == (21, 34)
    assert headers.declared_size(encoded("TIFF", 21, 34, big_tiff=True)) == (21, 34)
    assert headers.declared_size(b"II*\0" + b"\xff" * 40) is None
    assert headers.declared_size(b"") is None


CODE = """
import sys
from mtl_jax.images.decode import decode, image_size
for path in sys.argv[1:]:
    for read in (decode, image_size):
        try:
            read(path)
        except ValueError as error:
            assert "100" in str(error), error
            print("refused")
"""


def pillow_limit(code: str = "", limit: int = DEFAULT) -> int:
    """Return the number of pixels above which Pillow warns, after running `code`."""
    code += "from PIL import Image; print(Image.MAX_IMAGE_PIXELS)"
    return int(limited(code, limit).stdout)


@pytest.mark.parametrize("limit", [100, 10**9])
def test_pillow_has_no_lower_limit(limit):
    found = pillow_limit("import mtl_jax.images.decode;", limit)
    assert found == max(limit, pillow_limit())


@pytest.mark.parametrize("height", [10, 11])
def test_every_format_is_decoded_at_the_limit_and_refused_above(height, tmp_path):
    paths = []
    for kind in KINDS:
        paths.append(tmp_path / kind)
        paths[-1].write_bytes(encoded(kind, height, 10))
    np.save(tmp_path / "a.npy", np.zeros((height, 10, 3), np.uint8))
    paths.append(tmp_path / "a.npy")
    done = limited(CODE, 100, *map(str, paths))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["refused"] * (0 if height == 10 else 2 * len(paths))


@pytest.mark.parametrize("wrong", ["many", "-1", "0", "1e6", "9" * 30])
def test_a_wrong_limit_is_one_line(monkeypatch, wrong):
    monkeypatch.setenv(VARIABLE, wrong)
    with refused(VARIABLE):
        max_pixels()
    done = limited("import mtl_jax.images.decode", 0)
    assert done.returncode == 0, done.stderr


def test_the_default_is_pillows():
    assert max_pixels() == DEFAULT == 2 * pillow_limit()


def huge_png(width: int, height: int, shade: bytes = b"\0") -> bytes:
    """Return a gray PNG of one shade, compressed a thousandfold."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    packer = zlib.compressobj(9)
    row = b"\0" + shade * width
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return headers.PNG + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def with_size(jpeg: bytes, height: int, width: int) -> bytes:
    """Return a JPEG that claims another size."""
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def test_files_that_claim_more_than_they_have_are_refused_in_a_moment(tmp_path):
    jpeg = encoded("JPEG", 500, 500)
    gif = bytearray(encoded("GIF", 8, 8))
    gif[6:10] = struct.pack("<HH", 60000, 60000)
    with open(tmp_path / "sparse.png", "wb") as file:
        file.write(headers.PNG)
        file.truncate(2**40)
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.png")
    files = {
        "beyond the limit": with_size(jpeg, 32000, 32000),
        "few bytes for its blocks": with_size(jpeg, 12000, 12000),
        "gif": bytes(gif),
        "parts": b"\xff\xd8" + b"\xff\xe0\x00\x02" * 5_000_000 + jpeg[2:],
        "scans": jpeg[:-2] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" * 1000 + b"\xff\xd9",
        "empty parts": b"\xff\xd8" + b"\xff\xe0\x00\x00" * 5_000_000 + b"\xff\xd9",
    }
    start = time.process_time()
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        with refused(error=ValueError):
            decode(data)
    for name in ("sparse.png", "zero.png", "pipe.png"):
        with pytest.raises(OSError, match=name):
            decode(tmp_path / name)
    with pytest.raises(ValueError, match="parts"):
        image_size(tmp_path / "parts")
    assert time.process_time() - start < 10


def test_a_jpeg_of_one_color_is_complete():
    for options in ({}, {"progressive": True}, {"subsampling": 0}, {"optimize": True}):
        assert decode(encoded("JPEG", 3000, 4000, quality=1, **options)).shape == (3000, 4000, 3)


MEASURED = """
import resource, sys
from mtl_jax.images.decode import decode
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image = decode(sys.argv[1])
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(1024 * used / image.nbytes)
"""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "16 bits"])
def test_decoding_takes_less_than_four_times_the_decoded_size(kind, tmp_path):
    side = 3000
    if kind == "16 bits":
        import cv2

        data = cv2.imencode(".png", np.zeros((side, side, 3), np.uint16))[1].tobytes()
    else:
        data = encoded(kind, side, side)
    (tmp_path / "image").write_bytes(data)
    done = limited(MEASURED, DEFAULT, str(tmp_path / "image"))
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 4.3  # the size of other memory varies
