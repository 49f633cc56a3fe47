"""The decoder against Pillow."""

import contextlib
import io
import zlib

import cv2
import numpy as np
import pytest
from images.conftest import HEIGHT, WIDTH
from mistakes import check_names, refused
from PIL import Image, ImageOps
from real_data import data_set

from mtl_jax.data.readers.folders import look_at
from mtl_jax.images import decode as decoder
from mtl_jax.images import png
from mtl_jax.images.decode import decode, image_size, reduced_gray


@pytest.fixture(autouse=True)
def nothing_logged_yet(monkeypatch):
    monkeypatch.setattr(decoder, "_logged", set())


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def as_pillow(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(image, kind, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x112] = orientation
    data = encoded(Image.fromarray(image), kind, exif=exif)
    expected = as_pillow(data)
    np.testing.assert_array_equal(decode(data), expected)
    path = tmp_path / "image"
    path.write_bytes(data)
    assert image_size(path) == expected.shape[:2]
    np.testing.assert_array_equal(decode(path), expected)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_four_channels(image, kind, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x112] = orientation
    values = np.dstack([image, 255 - image[..., 0]])
    path = tmp_path / "image"
    path.write_bytes(encoded(Image.fromarray(values), kind, exif=exif, lossless=True, exact=True))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(decode(path, 4), expected)
    assert image_size(path) == expected.shape[:2]


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "1", "CMYK"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP"])
def test_modes_decode_as_pillow(image, mode, kind):
    source = Image.fromarray(image)
    if mode in ("LA", "RGBA"):
        source.putalpha(Image.fromarray(image[..., 0]))
    try:
        data = encoded(source.convert(mode), kind)
    except (OSError, ValueError):
        pytest.skip(f"{kind} has no mode {mode}")
    if (kind, mode) == ("TIFF", "RGBA"):
        # The opacity equals the red channel; OpenCV blends with black.
        expected = image * (image[..., :1] / 255)
        np.testing.assert_allclose(decode(data), expected, atol=1)
        return
    difference = decode(data).astype(int) - as_pillow(data)
    assert np.abs(difference).max() <= (1 if mode == "CMYK" else 0)  # rounding differs


def test_palette_with_transparency_decodes_as_its_colours(image):
    data = encoded(Image.fromarray(image).quantize(16), "PNG", transparency=3)
    np.testing.assert_array_equal(decode(data), as_pillow(data))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled_not_cut(kind):
    values = np.linspace(0, 65535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    got = decode(encoded(Image.fromarray(values), kind))
    np.testing.assert_array_equal(got, np.repeat(np.rint(values / 257)[..., None], 3, 2))
    assert got.min() == 0
    assert got.max() == 255


def test_12_bit_values_in_16_bits_are_not_white():
    values = np.full((4, 4), 4095, np.uint16)
    assert (decode(encoded(Image.fromarray(values), "PNG")) == 16).all()


def test_gray_is_luma(image):
    got = decode(encoded(Image.fromarray(image), "PNG"), channels=1)
    assert got.shape == (HEIGHT, WIDTH, 1)
    np.testing.assert_allclose(got[..., 0], image @ [0.299, 0.587, 0.114], atol=1)


@pytest.mark.parametrize("channels", [2, 5, 6])
def test_many_channels_come_from_npy_or_pages(channels):
    values = np.random.default_rng(1).integers(0, 256, (8, 9, channels), np.uint8)
    file = io.BytesIO()
    np.save(file, values)
    np.testing.assert_array_equal(decode(file.getvalue(), channels), values)
    pages = [Image.fromarray(values[..., i]) for i in range(channels)]
    tiff = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(decode(tiff, channels), values)
    with refused(channels, channels + 2, error=ValueError):
        decode(tiff, channels + 2)


def test_four_channels_keep_the_fourth(image):
    values = np.dstack([image, 255 - image[..., 0]])
    data = encoded(Image.fromarray(values, "RGBA"), "PNG")
    np.testing.assert_array_equal(decode(data, 4), values)
    with refused(error=ValueError):
        decode(encoded(Image.fromarray(values, "RGBA"), "TIFF"), 4)


def test_16_bit_npy_is_scaled_and_its_size_is_known(tmp_path):
    path = tmp_path / "depth.npy"
    np.save(path, np.full((5, 7, 4), 65535, np.uint16))
    assert image_size(path) == (5, 7)
    assert (decode(path, 4) == 255).all()


def test_npy_of_objects_is_refused():
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}]), allow_pickle=True)
    with refused("allow_pickle", error=ValueError):
        decode(file.getvalue(), 4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("part", [0.2, 0.6, 0.95, 0.999])
def test_truncated_images_are_refused(kind, part):
    values = np.random.default_rng(2).integers(0, 256, (300, 300, 3), np.uint8)
    data = encoded(Image.fromarray(values), kind)
    with refused(error=ValueError):
        decode(data[: int(part * len(data))])
    with refused(error=ValueError):  # a partial download, filled with zeros
        decode(data[: int(part * len(data))].ljust(len(data), b"\0"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_bytes_after_the_end_are_ignored(image, kind):
    data = encoded(Image.fromarray(image), kind)
    np.testing.assert_array_equal(decode(data + b"\0trailing\n"), decode(data))


def test_a_thumbnail_end_marker_does_not_make_a_jpeg_whole(image):
    thumbnail = encoded(Image.fromarray(image), "JPEG")
    comment = thumbnail + b"x"
    data = encoded(Image.fromarray(image), "JPEG", comment=comment, progressive=True)
    assert data.count(b"\xff\xd9") == 2
    np.testing.assert_array_equal(decode(data), as_pillow(data))
    with refused(error=ValueError):
        decode(data[:-2])


def test_cmyk_without_adobe_marker_is_refused(image):
    data = encoded(Image.fromarray(image).convert("CMYK"), "JPEG")
    start = data.index(b"\xff\xee")
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    with refused("CMYK", "RGB", error=ValueError):
        decode(data[:start] + data[start + 2 + length :])


def test_files_other_than_images_are_refused():
    messages = set()
    for data in (b"", b"hello, world" * 10, b"\xff\xd8"):  # empty, not an image, truncated
        with refused(error=ValueError) as caught:
            decode(data)
        messages.add(str(caught.value))
    assert len(messages) == 3


def test_float_pixels_are_refused():
    ok, data = cv2.imencode(".tiff", np.zeros((4, 4, 3), np.float32))
    assert ok
    with refused("float32", error=ValueError):
        decode(data.tobytes())


def test_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        decode(tmp_path / "none.jpg")


@pytest.mark.parametrize("folder", ["coco_mini", "balloon", "prima_headpose", "helen_afw_68"])
def test_photographs_decode_as_pillow(folder):
    paths = sorted(data_set(folder).rglob("*.jpg"))[:4]
    assert paths
    for path in paths:
        expected = as_pillow(path.read_bytes())
        assert image_size(path) == expected.shape[:2]
        difference = decode(path).astype(int) - expected
        assert np.abs(difference).mean() < 0.5  # versions of libjpeg may differ
        assert np.abs(difference).max() <= 4


def jpeg(size=(300, 200), **options) -> bytes:
    coarse = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    return encoded(Image.fromarray(cv2.resize(coarse, size)), "JPEG", **options)


def overwritten(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(200) + data[middle + 200 :]


def cut_short(data: bytes) -> bytes:
    return data[: len(data) // 2] + b"\xff\xd9"


def padded(data: bytes) -> bytes:
    scan = data.index(b"\xff\xda")
    return data[:scan] + b"garbage" + data[scan:]


@pytest.mark.parametrize("damage", [overwritten, cut_short, padded])
@pytest.mark.parametrize("kind", [{}, {"progressive": True}])
def test_a_damaged_jpeg_is_decoded_and_named_once(damage, kind, tmp_path, caplog, capfd):
    path = tmp_path / "damaged.jpg"
    path.write_bytes(damage(jpeg(**kind)))
    for _ in range(2):
        assert decode(path).shape == (200, 300, 3)
    (record,) = caplog.records
    check_names(record.getMessage(), path)
    (tmp_path / "good.jpg").write_bytes(jpeg(**kind))
    decode(tmp_path / "good.jpg")
    assert len(caplog.records) == 1
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("size", [(300, 200), (37, 23)])
def test_jpegs_are_decoded_to_the_pixels_of_opencv(mode, options, size):
    data = encoded(Image.open(io.BytesIO(jpeg(size))).convert(mode), "JPEG", **options)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(decode(data), expected)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(300, 200), (37, 23)])
def test_reduced_jpegs_are_those_of_opencv(mode, size, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(Image.open(io.BytesIO(jpeg(size))).convert(mode), "JPEG"))
    expected = cv2.imread(str(path), cv2.IMREAD_REDUCED_GRAYSCALE_2)
    np.testing.assert_array_equal(reduced_gray(path), expected)


def chunk(name: bytes, payload: bytes) -> bytes:
    checksum = zlib.crc32(name + payload).to_bytes(4, "big")
    return len(payload).to_bytes(4, "big") + name + payload + checksum


WARNED = [  # chunks about which libpng warns, and whether the pixels are still known
    (chunk(b"iCCP", b"ICC\0\0" + zlib.compress(b"nonsense" * 20)), True),
    (chunk(b"tRNS", b"\0"), True),
    (chunk(b"zTXt", b"Comment\0\7nonsense"), True),
    (chunk(b"gAMA", b"\0\0\0\1")[:-1] + b"\0", True),  # a wrong checksum
    (chunk(b"IDAT", b"nonsense"), False),
    (chunk(b"IHDR", b"\0" * 13), False),
]


@pytest.mark.parametrize(("added", "fine"), WARNED)
def test_unusual_pngs_cause_no_output(image, added, fine, capfd):
    data = encoded(Image.fromarray(image), "PNG")
    data = data[:33] + added + data[33:]
    if fine:
        np.testing.assert_array_equal(decode(data), image)
    else:
        with pytest.raises(ValueError, match="damaged"):
            decode(data)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA"])
@pytest.mark.parametrize("interlaced", [False, True])
def test_reduced_pngs_have_the_same_pixels(image, mode, interlaced):
    source = Image.fromarray(image).convert(mode)
    data = encoded(source, "PNG")
    if interlaced:
        data = adam7(np.asarray(source), mode)
    for alpha in (False, True):
        got = png.clean(data, alpha)
        np.testing.assert_array_equal(as_pillow(got), as_pillow(data))
    np.testing.assert_array_equal(decode(data), as_pillow(data))


def test_a_png_that_libpng_refuses_is_an_error_without_output(capfd):
    with refused("1000001", "1,000,000", error=ValueError):
        decode(encoded(Image.new("L", (1_000_001, 1)), "PNG"))
    assert capfd.readouterr().err == ""


def adam7(values: np.ndarray, mode: str) -> bytes:
    """Return an interlaced PNG of gray or RGB pixels, with a palette of gray values for P."""
    values = values.astype(np.uint8) if mode != "1" else 255 * values.astype(np.uint8)
    color = {"L": 0, "1": 0, "RGB": 2, "P": 3, "LA": 4, "RGBA": 6}[mode]
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4))
    raw = b""
    for x, y, step_x, step_y in (*passes, (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        raw += b"".join(b"\0" + row.tobytes() for row in values[y::step_y, x::step_x])
    header = WIDTH.to_bytes(4, "big") + HEIGHT.to_bytes(4, "big") + bytes([8, color, 0, 0, 1])
    palette = chunk(b"PLTE", bytes(np.repeat(np.arange(256, dtype=np.uint8), 3)))
    parts = (
        chunk(b"IHDR", header),
        palette if mode == "P" else b"",
        chunk(b"IDAT", zlib.compress(raw)),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def test_changed_files_are_errors_without_output(image, capfd):
    """Change bytes of small files of all formats at random."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(image)
    kinds = [("PNG", {}), ("JPEG", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {})]
    files = [encoded(picture, kind, **options) for kind, options in (*kinds, ("GIF", {}))]
    for _ in range(300):
        data = bytearray(files[rng.integers(len(files))])
        for place in rng.integers(len(data), size=3):
            data[place] = rng.integers(256)
        with contextlib.suppress(ValueError):
            decode(bytes(data))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("read", [image_size, look_at])
def test_the_size_of_a_dim_image_is_read_without_a_warning(read, tmp_path, caplog):
    path = tmp_path / "dim.tif"  # has no size that is read without decoding
    cv2.imwrite(str(path), np.arange(256, dtype=np.uint16).reshape(8, 32))
    assert read(path) == (8, 32)
    assert not caplog.records


def test_levels_of_16_bit_images_are_spread(tmp_path, caplog):
    path = tmp_path / "dim.png"
    values = np.linspace(100, 500, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).round()
    cv2.imwrite(str(path), values.astype(np.uint16))
    assert decode(path).max() == 2
    (record,) = caplog.records
    check_names(record.getMessage(), path, 100, 500, "config.data.levels=(100, 500)")
    spread = decode(path, 1, levels=(100, 300))
    expected = np.clip((values - 100) * 255 / 200, 0, 255)
    np.testing.assert_allclose(spread[..., 0], expected, atol=0.5)
    assert len(caplog.records) == 1
