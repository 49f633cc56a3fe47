"""The decoder against Pillow's, the resizer against drawn pictures and area sums."""

import io

import cv2
import numpy as np
import pytest
from mistakes import refused
from PIL import Image, ImageOps
from real_data import data_set

from mtl_jax import images
from mtl_jax.images import Geometry, ResizeOptions

HEIGHT, WIDTH = 30, 40
FLIPS = [1.0, -1.0]


@pytest.fixture
def picture() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def as_pillow(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(picture, kind, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x112] = orientation
    data = encoded(Image.fromarray(picture), kind, exif=exif)
    expected = as_pillow(data)
    np.testing.assert_array_equal(images.decode(data), expected)
    path = tmp_path / "picture"
    path.write_bytes(data)
    assert images.picture_size(path) == expected.shape[:2]
    np.testing.assert_array_equal(images.decode(path), expected)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_four_channels(picture, kind, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x112] = orientation
    values = np.dstack([picture, 255 - picture[..., 0]])
    path = tmp_path / "picture"
    path.write_bytes(encoded(Image.fromarray(values), kind, exif=exif, lossless=True, exact=True))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(images.decode(path, 4), expected)
    assert images.picture_size(path) == expected.shape[:2]


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "1", "CMYK"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP"])
def test_modes_decode_as_pillow(picture, mode, kind):
    source = Image.fromarray(picture)
    if mode in ("LA", "RGBA"):
        source.putalpha(Image.fromarray(picture[..., 0]))
    try:
        data = encoded(source.convert(mode), kind)
    except (OSError, ValueError):
        pytest.skip(f"{kind} has no mode {mode}")
    if (kind, mode) == ("TIFF", "RGBA"):
        expected = picture * (picture[..., :1] / 255)  # its red is its opacity, on black
        np.testing.assert_allclose(images.decode(data), expected, atol=1)
        return
    difference = images.decode(data).astype(int) - as_pillow(data)
    assert np.abs(difference).max() <= (1 if mode == "CMYK" else 0)  # their roundings differ


def test_palette_with_transparency_decodes_as_its_colours(picture):
    data = encoded(Image.fromarray(picture).quantize(16), "PNG", transparency=3)
    np.testing.assert_array_equal(images.decode(data), as_pillow(data))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled_not_cut(kind):
    values = np.linspace(0, 65535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    got = images.decode(encoded(Image.fromarray(values), kind))
    np.testing.assert_array_equal(got, np.repeat(np.rint(values / 257)[..., None], 3, 2))
    assert got.min() == 0
    assert got.max() == 255


def test_12_bit_values_in_16_bits_are_not_white():
    values = np.full((4, 4), 4095, np.uint16)
    assert (images.decode(encoded(Image.fromarray(values), "PNG")) == 16).all()


def test_gray_is_luma(picture):
    got = images.decode(encoded(Image.fromarray(picture), "PNG"), channels=1)
    assert got.shape == (HEIGHT, WIDTH, 1)
    np.testing.assert_allclose(got[..., 0], picture @ [0.299, 0.587, 0.114], atol=1)


@pytest.mark.parametrize("channels", [2, 5, 6])
def test_many_channels_come_from_npy_or_pages(channels):
    values = np.random.default_rng(1).integers(0, 256, (8, 9, channels), np.uint8)
    file = io.BytesIO()
    np.save(file, values)
    np.testing.assert_array_equal(images.decode(file.getvalue(), channels), values)
    pages = [Image.fromarray(values[..., i]) for i in range(channels)]
    tiff = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(images.decode(tiff, channels), values)
    with refused(channels, channels + 2, error=ValueError):
        images.decode(tiff, channels + 2)


def test_four_channels_keep_the_fourth(picture):
    values = np.dstack([picture, 255 - picture[..., 0]])
    data = encoded(Image.fromarray(values, "RGBA"), "PNG")
    np.testing.assert_array_equal(images.decode(data, 4), values)
    with refused(error=ValueError):
        images.decode(encoded(Image.fromarray(values, "RGBA"), "TIFF"), 4)


def test_16_bit_npy_is_scaled_and_its_size_is_known(tmp_path):
    path = tmp_path / "depth.npy"
    np.save(path, np.full((5, 7, 4), 65535, np.uint16))
    assert images.picture_size(path) == (5, 7)
    assert (images.decode(path, 4) == 255).all()


def test_npy_of_objects_is_refused():
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}]), allow_pickle=True)
    with refused("allow_pickle", error=ValueError):
        images.decode(file.getvalue(), 4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("part", [0.2, 0.6, 0.95, 0.999])
def test_truncated_pictures_are_refused(kind, part):
    values = np.random.default_rng(2).integers(0, 256, (300, 300, 3), np.uint8)
    data = encoded(Image.fromarray(values), kind)
    with refused(error=ValueError):
        images.decode(data[: int(part * len(data))])
    with refused(error=ValueError):  # a download that reserved its space
        images.decode(data[: int(part * len(data))].ljust(len(data), b"\0"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_bytes_behind_the_end_do_not_matter(picture, kind):
    data = encoded(Image.fromarray(picture), kind)
    np.testing.assert_array_equal(images.decode(data + b"\0trailing\n"), images.decode(data))


def test_a_thumbnail_end_marker_does_not_make_a_jpeg_whole(picture):
    thumbnail = encoded(Image.fromarray(picture), "JPEG")
    comment = thumbnail + b"x"
    data = encoded(Image.fromarray(picture), "JPEG", comment=comment, progressive=True)
    assert data.count(b"\xff\xd9") == 2
    np.testing.assert_array_equal(images.decode(data), as_pillow(data))
    with refused(error=ValueError):
        images.decode(data[:-2])


def test_cmyk_without_adobe_marker_is_refused(picture):
    data = encoded(Image.fromarray(picture).convert("CMYK"), "JPEG")
    start = data.index(b"\xff\xee")
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    with refused("CMYK", "RGB", error=ValueError):
        images.decode(data[:start] + data[start + 2 + length :])


def test_what_is_no_picture_says_so():
    said = set()
    for data in (b"", b"hello, world" * 10, b"\xff\xd8"):  # empty, something else, cut off
        with refused(error=ValueError) as caught:
            images.decode(data)
        said.add(str(caught.value))
    assert len(said) == 3


def test_float_pixels_are_refused():
    ok, data = cv2.imencode(".tiff", np.zeros((4, 4, 3), np.float32))
    assert ok
    with refused("float32", error=ValueError):
        images.decode(data.tobytes())


def test_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        images.decode(tmp_path / "none.jpg")


@pytest.mark.parametrize("folder", ["coco_mini", "balloon", "prima_headpose", "helen_afw_68"])
def test_photographs_decode_as_pillow(folder):
    paths = sorted(data_set(folder).rglob("*.jpg"))[:4]
    assert paths
    for path in paths:
        expected = as_pillow(path.read_bytes())
        assert images.picture_size(path) == expected.shape[:2]
        difference = images.decode(path).astype(int) - expected
        assert np.abs(difference).mean() < 0.5  # their versions of libjpeg may differ
        assert np.abs(difference).max() <= 4


@pytest.mark.parametrize("sign", FLIPS)
def test_geometry_inverse_undoes_it(sign):
    geometry = Geometry(1.5 * sign, 0.7, 12.0, -3.0)
    points = np.random.default_rng(0).uniform(0, 100, (20, 2))
    np.testing.assert_allclose(geometry.inverse().points(geometry.points(points)), points)
    boxes = np.array([[1.0, 2.0, 30.0, 40.0]])
    moved = geometry.boxes(boxes)
    assert (moved[:, :2] < moved[:, 2:]).all()
    np.testing.assert_allclose(geometry.inverse().boxes(moved), boxes)


MODES = [
    # mode, min, max, canvases, picture (h, w) -> canvas, size of the picture on it
    ("shorter", 800, 1333, ((832, 1344), (1344, 832)), (480, 640), (832, 1344), (800, 1066)),
    ("shorter", 800, 1333, ((832, 1344), (1344, 832)), (640, 480), (1344, 832), (1066, 800)),
    ("shorter", 800, 1333, ((832, 1344), (1344, 832)), (500, 2000), (832, 1344), (333, 1333)),
    ("shorter", 800, 1333, ((832, 832),), (480, 640), (832, 832), (624, 832)),
    ("shorter", 100, 200, ((128, 256), (256, 256)), (50, 50), (128, 256), (100, 100)),
    ("square", 256, 256, ((256, 256),), (288, 384), (256, 256), (192, 256)),
    ("square", 800, 1024, ((1024, 1024),), (1500, 1000), (1024, 1024), (1024, 683)),
    ("square", 200, 1024, ((1024, 1024),), (300, 400), (1024, 1024), (300, 400)),
    ("pad64", 100, 0, ((1, 1),), (50, 130), (128, 320), (100, 260)),
    ("pad64", 0, 0, ((1, 1),), (50, 130), (64, 192), (50, 130)),
    ("crop", 64, 0, ((1, 1),), (32, 48), (64, 64), (64, 96)),
    ("none", 64, 0, ((1, 1),), (33, 48), (33, 48), (33, 48)),
]


@pytest.mark.parametrize(("mode", "low", "high", "canvases", "shape", "canvas", "size"), MODES)
def test_fit_gives_the_modes_of_torchvision_and_matterport(
    mode, low, high, canvases, shape, canvas, size
):
    got, geometry = images.fit(*shape, ResizeOptions(mode, low, high, canvases))
    assert got == canvas
    np.testing.assert_allclose(np.multiply(shape, (geometry.scale_y, geometry.scale_x)), size)
    middle = [(s - c) // 2 for s, c in zip(size, canvas, strict=True)] if mode == "crop" else (0, 0)
    np.testing.assert_allclose((-geometry.shift_y, -geometry.shift_x), middle)


@pytest.mark.parametrize(("mode", "low", "high", "canvases", "shape", "canvas", "size"), MODES)
def test_zoom_multiplies_the_scale_of_every_mode(mode, low, high, canvases, shape, canvas, size):
    options = ResizeOptions(mode, low, high, canvases)
    got, geometry = images.fit(*shape, options.zoomed(1.5))
    sides = np.multiply(shape, (geometry.scale_y, geometry.scale_x))
    np.testing.assert_allclose(sides, np.multiply(size, 1.5), atol=1.01)
    if mode in ("shorter", "square"):
        assert got == tuple(-(-side * 3 // 64) * 32 for side in canvas)
    assert images.fit(*shape, options.zoomed(1.0)) == images.fit(*shape, options)


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (3, 3), (4000, 3000), (801, 799)])
def test_fit_always_gives_a_picture_within_the_canvas(shape):
    canvas, geometry = images.fit(*shape, ResizeOptions())
    x1, y1, x2, y2 = geometry.boxes(np.array([0, 0, shape[1], shape[0]], float))
    assert (x1, y1) == (0, 0)
    assert 1 - 1e-9 <= x2 <= canvas[1] + 1e-9
    assert 1 - 1e-9 <= y2 <= canvas[0] + 1e-9


def test_shorter_agrees_with_torchvision():
    torch = pytest.importorskip("torch")
    transform = pytest.importorskip("torchvision.models.detection.transform")
    resizer = transform.GeneralizedRCNNTransform(800, 1333, [0.0] * 3, [1.0] * 3)
    for height, width in np.random.default_rng(0).integers(60, 900, (6, 2)).tolist():
        expected, _ = resizer.resize(torch.zeros(3, height, width), None)
        _, geometry = images.fit(height, width, ResizeOptions(canvases=((1344, 1344),)))
        got = geometry.scale_y * height, geometry.scale_x * width
        np.testing.assert_allclose(got, expected.shape[-2:])


def test_wrong_options_are_refused():
    with refused("data.resize.mode", "'squre'", *images.MODES, error=ValueError):
        ResizeOptions("squre")
    with refused("data.resize.canvases", error=ValueError):
        ResizeOptions(canvases=())
    with refused("data.resize.zoom", 0.0, error=ValueError):
        ResizeOptions(zoom=0.0)


@pytest.mark.parametrize("size", [(60, 80), (15, 20), (30, 40), (47, 33), (11, 60)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_ramp_lands_where_geometry_says(size, mirrored):
    """A picture whose value is its x (or y) coordinate must hold it at the point moved back."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    ramp = np.rint(np.dstack([x * 6, y * 6, 0 * x])).astype(np.uint8)
    geometry = images.scaled(HEIGHT, WIDTH, size, (3, 5), mirrored)
    canvas = (size[0] - 6, size[1] - 10)  # inside it on all sides, where no border is repeated
    got = images.place(ramp, canvas, geometry)
    y, x = np.mgrid[: canvas[0], : canvas[1]] + 0.5
    back = geometry.inverse().points(np.stack([x, y], -1))
    np.testing.assert_allclose(got[..., :2], back * 6, atol=1.6)  # two roundings


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("scale", [0.25, 1, 3])
def test_a_rectangle_lands_where_its_box_does(mirrored, scale):
    image = np.zeros((48, 64, 3), np.uint8)
    image[8:24, 16:40] = 255
    size = (int(48 * scale), int(64 * scale))
    geometry = images.scaled(48, 64, size, (2, 4), mirrored)
    got = images.place(image, (60, 70), geometry)
    drawn = (got[..., 0] > 127).nonzero()
    found = [drawn[1].min(), drawn[0].min(), drawn[1].max() + 1, drawn[0].max() + 1]
    expected = geometry.boxes(np.array([16.0, 8, 40, 24]))
    np.testing.assert_allclose(found, np.clip(expected, 0, [70, 60, 70, 60]))


def test_shrinking_averages_areas(picture):
    got = images.place(picture, (10, 20), images.scaled(HEIGHT, WIDTH, (10, 20)))
    means = picture.reshape(10, 3, 20, 2, 3).mean((1, 3))
    np.testing.assert_allclose(got, means, atol=0.51)


@pytest.mark.parametrize("size", [(37, 51), (90, 130)])
def test_float_pixels_are_resized_as_torchvision_does(picture, size):
    torch = pytest.importorskip("torch")
    height, width = picture.shape[:2]
    geometry = images.scaled(height, width, size)
    found = images.place(picture, size, geometry, ResizeOptions(interpolation="float").dtype)
    nchw = torch.tensor(picture, dtype=torch.float32).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(nchw, size, mode="bilinear", align_corners=False)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected[0].permute(1, 2, 0).numpy(), atol=2e-4)


def test_the_rest_of_the_canvas_is_zero_and_the_rest_is_the_picture(picture):
    geometry = images.scaled(HEIGHT, WIDTH, (HEIGHT, WIDTH))
    got = images.place(picture, (50, 60), geometry)
    np.testing.assert_array_equal(got[:HEIGHT, :WIDTH], picture)
    assert not got[HEIGHT:].any()
    assert not got[:, WIDTH:].any()
    np.testing.assert_array_equal(
        images.covered(HEIGHT, WIDTH, (50, 60), geometry), [0, 0, WIDTH, HEIGHT]
    )
    crop = images.scaled(HEIGHT, WIDTH, (60, 80), (5, 10))
    np.testing.assert_array_equal(images.covered(HEIGHT, WIDTH, (50, 60), crop), [0, 0, 60, 50])


def test_mirroring_twice_is_the_picture(picture):
    once = images.scaled(HEIGHT, WIDTH, (HEIGHT, WIDTH), mirrored=True)
    mirror = images.place(picture, (HEIGHT, WIDTH), once)
    np.testing.assert_array_equal(mirror, picture[:, ::-1])


@pytest.mark.parametrize("size", [(15, 20), (60, 80)])
def test_channels_are_resized_alike(size):
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 6), np.uint8)
    geometry = images.scaled(HEIGHT, WIDTH, size, mirrored=True)
    together = images.place(image, size, geometry)
    for i in range(6):
        alone = images.place(image[..., i : i + 1], size, geometry)
        np.testing.assert_allclose(together[..., i], alone[..., 0], atol=1)  # OpenCV rounds twice


def test_edges_between_pixels_are_refused(picture):
    with refused(1.01 * WIDTH, error=ValueError):
        images.place(picture, (50, 60), Geometry(1.01, 1.0))
