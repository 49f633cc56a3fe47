"""Segmentations in COCO's encodings against pycocotools, and coverage against sampled points."""

import numpy as np
import pytest
from mistakes import refused
from pycocotools import mask as coco_mask
from real_data import data_set

from mtl_jax.data.readers.annotation_tools.coco import CocoSource
from mtl_jax.data.segmentation import cell_coverage, read_counts, to_mask

HEIGHT, WIDTH = 40, 60


def polygons(rng: np.random.Generator) -> list[list[float]]:
    """Return two star-shaped polygons with subpixel corners; one is clipped at the image border."""
    turn = np.sort(rng.uniform(0, 2 * np.pi, 9))
    shapes = []
    for centre in ((20.3, 18.6), (52.1, 31.9)):
        reach = rng.uniform(4, 12, 9)
        points = np.stack([np.cos(turn), np.sin(turn)], 1) * reach[:, None] + centre
        shapes.append(points.clip(0, (WIDTH, HEIGHT)).ravel().tolist())
    return shapes


def run_lengths(mask: np.ndarray) -> list[int]:
    """Return the run lengths of a mask, column by column and zeros first, counted by pixel."""
    counts, value = [0], False
    for pixel in mask.ravel(order="F").tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


@pytest.fixture
def mask() -> np.ndarray:
    return np.random.default_rng(3).random((HEIGHT, WIDTH)) < 0.4


def test_all_encodings_of_rle_are_decoded_alike(mask):
    text = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    for segmentation in (
        {"size": [HEIGHT, WIDTH], "counts": run_lengths(mask)},
        {"size": [HEIGHT, WIDTH], "counts": text["counts"]},
        {"size": (HEIGHT, WIDTH), "counts": text["counts"].decode()},
        mask,
        mask.astype(np.uint8),
    ):
        got = to_mask(segmentation, HEIGHT, WIDTH)
        assert got.dtype == bool
        np.testing.assert_array_equal(got, mask)
        np.testing.assert_array_equal(
            to_mask(segmentation, HEIGHT, WIDTH, (5, 6, 30, 21)), mask[6:21, 5:30]
        )


def by_pycocotools(drawn: list[list[float]], height: int, width: int) -> np.ndarray:
    encoded = coco_mask.merge(coco_mask.frPyObjects(drawn, height, width))
    return coco_mask.decode(encoded).astype(bool)


@pytest.mark.parametrize("decimals", [0, 1, 2, 16])
@pytest.mark.parametrize("seed", range(5))
def test_polygons_are_drawn_as_pycocotools_does_in_any_window(seed, decimals):
    """Includes corners at odd tenths of a pixel: pycocotools rounds five times a coordinate."""
    rng = np.random.default_rng(seed)
    drawn = [np.round(polygon, decimals).tolist() for polygon in polygons(rng)]
    expected = by_pycocotools(drawn, HEIGHT, WIDTH)
    assert expected.any()
    np.testing.assert_array_equal(to_mask(drawn, HEIGHT, WIDTH), expected)
    for _ in range(20):
        x1, x2 = np.sort(rng.choice(WIDTH + 1, 2, replace=False)).tolist()
        y1, y2 = np.sort(rng.choice(HEIGHT + 1, 2, replace=False)).tolist()
        got = to_mask(drawn, HEIGHT, WIDTH, (x1, y1, x2, y2))
        np.testing.assert_array_equal(got, expected[y1:y2, x1:x2])


def test_polygons_beyond_the_image_are_drawn_as_pycocotools_does():
    rng = np.random.default_rng(0)
    for _ in range(100):
        drawn = [np.round(rng.uniform((-9, -9), (WIDTH + 9, HEIGHT + 9), (5, 2)), 1).ravel()]
        expected = by_pycocotools([drawn[0].tolist()], HEIGHT, WIDTH)
        got = to_mask(drawn, HEIGHT, WIDTH, (7, 5, 50, 30))
        np.testing.assert_array_equal(got, expected[5:30, 7:50])


def test_polygons_of_coco_are_drawn_as_pycocotools_does():
    root = data_set("coco_mini")
    source = CocoSource(root / "annotations/instances.json", root / "images")
    for record in (source[i] for i in range(len(source))):
        for one in record.instances:
            if isinstance(one.segmentation, list):
                x1, y1 = (int(value) for value in one.box[:2])
                window = (x1, y1, *(int(np.ceil(value)) for value in one.box[2:]))
                expected = by_pycocotools(one.segmentation, record.height, record.width)
                got = to_mask(one.segmentation, record.height, record.width, window)
                np.testing.assert_array_equal(got, expected[y1 : window[3], x1 : window[2]])


def test_compressed_counts_are_run_lengths(mask):
    for part in (mask, ~mask, mask & False, mask | True):
        counts = coco_mask.encode(np.asfortranarray(part.astype(np.uint8)))["counts"]
        assert read_counts(counts).tolist() == run_lengths(part)
    big = np.zeros((3000, 1000), np.uint8, "F")
    big[100:2900, 5:900] = 1
    assert read_counts(coco_mask.encode(big)["counts"]).sum() == big.size


@pytest.mark.parametrize("counts", [b"", b"\x7f", b"P", b"PPPPPPP0", b"O"])
def test_malformed_counts_are_refused(counts):
    with refused("counts", error=ValueError):
        read_counts(counts)


WRONG = [  # a segmentation, and the parts of the message: fields, sizes, numbers of pixels, a type
    ([[1, 2, 3, 4]], ()),
    ([], ()),
    ([[1, 2, 3, 4, 5, 6, 7]], ()),
    ([[[1, 2], [3, 4], [5, 6]]], ()),
    ({"size": [HEIGHT, WIDTH]}, ("counts", "size", HEIGHT, WIDTH)),
    ({"size": [WIDTH, HEIGHT], "counts": [HEIGHT * WIDTH]}, ("counts", "size", HEIGHT, WIDTH)),
    ({"size": None, "counts": [HEIGHT * WIDTH]}, ("counts", "size", HEIGHT, WIDTH)),
    *(
        ({"size": [HEIGHT, WIDTH], "counts": counts}, ("counts",))
        for counts in (None, 5, ["2400"], [5, -1, 2396], [2400.0], {})
    ),
    ({"size": [HEIGHT, WIDTH], "counts": [3, 4]}, ("counts", 7, 2400)),
    ({"size": [HEIGHT, WIDTH], "counts": "34"}, ("counts", 7, 2400)),
    ({"size": [HEIGHT, WIDTH], "counts": b"PPPPPPP0"}, ("counts",)),
    (np.zeros((3, 4), bool), ("(3, 4)", HEIGHT, WIDTH)),
    ("mask.png", ("str",)),
]


@pytest.mark.parametrize(("segmentation", "parts"), WRONG)
def test_wrong_segmentations_are_refused(segmentation, parts):
    with refused(*parts, error=ValueError):
        to_mask(segmentation, HEIGHT, WIDTH)


def sampled_coverage(mask, x_edges, y_edges, samples=50) -> np.ndarray:
    """Estimate the coverage of each cell with a fine grid of points."""
    out = np.zeros((len(y_edges) - 1, len(x_edges) - 1))
    part = (np.arange(samples) + 0.5) / samples
    for i in range(len(y_edges) - 1):
        rows = np.floor(y_edges[i] + part * (y_edges[i + 1] - y_edges[i])).astype(int)
        for j in range(len(x_edges) - 1):
            columns = np.floor(x_edges[j] + part * (x_edges[j + 1] - x_edges[j])).astype(int)
            inside = ((rows >= 0) & (rows < HEIGHT))[:, None] & (columns >= 0) & (columns < WIDTH)
            picked = mask[rows.clip(0, HEIGHT - 1)[:, None], columns.clip(0, WIDTH - 1)]
            out[i, j] = (picked & inside).mean()
    return out


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("cells", [4, 13, 80])
def test_coverage_is_the_fraction_of_a_cell(mask, cells, mirrored):
    """Cells are smaller and larger than pixels, extend beyond the mask, and may be mirrored."""
    x_edges = np.linspace(-3.3, 41.7, cells + 1)[:: -1 if mirrored else 1]
    y_edges = np.linspace(10.2, 44.9, cells + 1)
    got = cell_coverage(mask, x_edges, y_edges)
    assert got.dtype == np.uint8
    expected = sampled_coverage(mask, x_edges, y_edges)
    np.testing.assert_allclose(got / 255, expected, atol=0.05)
    assert abs(got.mean() / 255 - expected.mean()) < 2e-3


def test_coverage_of_whole_pixels_is_the_mask(mask):
    got = cell_coverage(mask, np.arange(WIDTH + 1.0), np.arange(HEIGHT + 1.0))
    np.testing.assert_array_equal(got, mask * 255)
