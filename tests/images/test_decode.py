"""The decoder against Pillow."""

import io

import cv2
import numpy as np
import pytest
from images.conftest import HEIGHT, WIDTH
from mistakes import refused
from PIL import Image, ImageOps
from real_data import data_set

from mtl_jax.images.decode import decode, image_size


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
