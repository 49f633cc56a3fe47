"""The resizer against drawn images, area sums and torchvision."""

import numpy as np
import pytest
from images.conftest import HEIGHT, WIDTH
from mistakes import refused

from mtl_jax.images.geometry import Geometry, covered_box, scale_geometry
from mtl_jax.images.resize import MODES, ResizeOptions, resize_and_pad, resize_geometry

CASES = [
    # mode, min, max, padded sizes, image (h, w) -> padded size, size of the resized image
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


@pytest.mark.parametrize(("mode", "low", "high", "canvases", "shape", "canvas", "size"), CASES)
def test_modes_equal_those_of_torchvision_and_matterport(
    mode, low, high, canvases, shape, canvas, size
):
    got, geometry = resize_geometry(*shape, ResizeOptions(mode, low, high, canvases))
    assert got == canvas
    np.testing.assert_allclose(np.multiply(shape, (geometry.scale_y, geometry.scale_x)), size)
    middle = [(s - c) // 2 for s, c in zip(size, canvas, strict=True)] if mode == "crop" else (0, 0)
    np.testing.assert_allclose((-geometry.shift_y, -geometry.shift_x), middle)


@pytest.mark.parametrize(("mode", "low", "high", "canvases", "shape", "canvas", "size"), CASES)
def test_zoom_multiplies_the_scale_of_every_mode(mode, low, high, canvases, shape, canvas, size):
    options = ResizeOptions(mode, low, high, canvases)
    got, geometry = resize_geometry(*shape, options.zoomed(1.5))
    sides = np.multiply(shape, (geometry.scale_y, geometry.scale_x))
    np.testing.assert_allclose(sides, np.multiply(size, 1.5), atol=1.01)
    if mode in ("shorter", "square"):
        assert got == tuple(-(-side * 3 // 64) * 32 for side in canvas)
    assert resize_geometry(*shape, options.zoomed(1.0)) == resize_geometry(*shape, options)


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (3, 3), (4000, 3000), (801, 799)])
def test_the_resized_image_is_always_within_the_padded_image(shape):
    canvas, geometry = resize_geometry(*shape, ResizeOptions())
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
        _, geometry = resize_geometry(height, width, ResizeOptions(canvases=((1344, 1344),)))
        got = geometry.scale_y * height, geometry.scale_x * width
        np.testing.assert_allclose(got, expected.shape[-2:])


def test_wrong_options_are_refused():
    with refused("data.resize.mode", "'squre'", *MODES, error=ValueError):
        ResizeOptions("squre")
    with refused("data.resize.canvases", error=ValueError):
        ResizeOptions(canvases=())
    with refused("data.resize.zoom", 0.0, error=ValueError):
        ResizeOptions(zoom=0.0)


@pytest.mark.parametrize("size", [(60, 80), (15, 20), (30, 40), (47, 33), (11, 60)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_ramp_is_moved_as_its_geometry_specifies(size, mirrored):
    """The pixels of a ramp must equal the coordinates that they are moved back to."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    ramp = np.rint(np.dstack([x * 6, y * 6, 0 * x])).astype(np.uint8)
    geometry = scale_geometry(HEIGHT, WIDTH, size, (3, 5), mirrored)
    canvas = (size[0] - 6, size[1] - 10)  # cropped on all sides, to exclude repeated borders
    got = resize_and_pad(ramp, canvas, geometry)
    y, x = np.mgrid[: canvas[0], : canvas[1]] + 0.5
    back = geometry.inverse().points(np.stack([x, y], -1))
    np.testing.assert_allclose(got[..., :2], back * 6, atol=1.6)  # rounded twice


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("scale", [0.25, 1, 3])
def test_a_rectangle_is_moved_as_its_box(mirrored, scale):
    image = np.zeros((48, 64, 3), np.uint8)
    image[8:24, 16:40] = 255
    size = (int(48 * scale), int(64 * scale))
    geometry = scale_geometry(48, 64, size, (2, 4), mirrored)
    got = resize_and_pad(image, (60, 70), geometry)
    drawn = (got[..., 0] > 127).nonzero()
    found = [drawn[1].min(), drawn[0].min(), drawn[1].max() + 1, drawn[0].max() + 1]
    expected = geometry.boxes(np.array([16.0, 8, 40, 24]))
    np.testing.assert_allclose(found, np.clip(expected, 0, [70, 60, 70, 60]))


def test_shrinking_averages_areas(image):
    got = resize_and_pad(image, (10, 20), scale_geometry(HEIGHT, WIDTH, (10, 20)))
    means = image.reshape(10, 3, 20, 2, 3).mean((1, 3))
    np.testing.assert_allclose(got, means, atol=0.51)


@pytest.mark.parametrize("size", [(37, 51), (90, 130)])
def test_float_pixels_are_resized_as_torchvision_does(image, size):
    torch = pytest.importorskip("torch")
    height, width = image.shape[:2]
    geometry = scale_geometry(height, width, size)
    found = resize_and_pad(image, size, geometry, ResizeOptions(interpolation="float").dtype)
    nchw = torch.tensor(image, dtype=torch.float32).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(nchw, size, mode="bilinear", align_corners=False)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected[0].permute(1, 2, 0).numpy(), atol=2e-4)


def test_the_padding_is_zero_and_the_rest_is_the_image(image):
    geometry = scale_geometry(HEIGHT, WIDTH, (HEIGHT, WIDTH))
    got = resize_and_pad(image, (50, 60), geometry)
    np.testing.assert_array_equal(got[:HEIGHT, :WIDTH], image)
    assert not got[HEIGHT:].any()
    assert not got[:, WIDTH:].any()
    np.testing.assert_array_equal(
        covered_box(HEIGHT, WIDTH, (50, 60), geometry), [0, 0, WIDTH, HEIGHT]
    )
    crop = scale_geometry(HEIGHT, WIDTH, (60, 80), (5, 10))
    np.testing.assert_array_equal(covered_box(HEIGHT, WIDTH, (50, 60), crop), [0, 0, 60, 50])


def test_mirroring_reverses_the_columns(image):
    once = scale_geometry(HEIGHT, WIDTH, (HEIGHT, WIDTH), mirrored=True)
    mirror = resize_and_pad(image, (HEIGHT, WIDTH), once)
    np.testing.assert_array_equal(mirror, image[:, ::-1])


@pytest.mark.parametrize("size", [(15, 20), (60, 80)])
def test_channels_are_resized_alike(size):
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 6), np.uint8)
    geometry = scale_geometry(HEIGHT, WIDTH, size, mirrored=True)
    together = resize_and_pad(image, size, geometry)
    for i in range(6):
        alone = resize_and_pad(image[..., i : i + 1], size, geometry)
        np.testing.assert_allclose(together[..., i], alone[..., 0], atol=1)  # OpenCV rounds twice


def test_edges_between_pixels_are_refused(image):
    with refused(1.01 * WIDTH, error=ValueError):
        resize_and_pad(image, (50, 60), Geometry(1.01, 1.0))
