"""Mask images in the layout of Penn-Fudan, and broken ones."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from annotated import (
    HEIGHT,
    WIDTH,
    check_lines,
    faults,
    mask_of,
    open_format,
    write_picture,
)
from mistakes import refused
from PIL import Image

from mtl_jax.data.readers.format import Labels

VALUES = np.zeros((HEIGHT, WIDTH), np.uint8)
VALUES[10:30, 20:60] = 1
VALUES[20:70, 50:90] = 3  # no instance is 2, and 3 covers a part of 1


def save(path: Path, values: np.ndarray, kind: str) -> None:
    path.parent.mkdir(exist_ok=True)
    if kind == "palette":
        image = Image.fromarray(values, "P")
        image.putpalette([0, 0, 0, 200, 0, 0, 9, 9, 9, 200, 0, 0])  # 1 and 3 of one colour
        image.save(path)
    else:
        cv2.imwrite(str(path), values.astype(np.uint16) if kind == "16 bits" else values)


def write(folder: Path, name="a", values=VALUES, kind="gray", ending="_mask.png") -> None:
    write_picture(folder / f"PNGImages/{name}.png")
    save(folder / f"PedMasks/{name}{ending}", values, kind)


@pytest.mark.parametrize("kind", ["gray", "palette", "16 bits"])
@pytest.mark.parametrize("ending", ["_mask.png", ".png", ".tif"])
def test_each_value_is_an_instance(tmp_path, kind, ending):
    write(tmp_path, kind=kind, ending=ending)
    write(tmp_path, "b", 0 * VALUES, kind, ending)
    write_picture(tmp_path / "PNGImages/c.png")
    source = open_format("masks", tmp_path, categories=("person",))
    assert [category.name for category in source.categories] == ["person"]
    assert [len(source[i].instances) for i in range(3)] == [2, 0, 0]
    for instance, value in zip(source[0].instances, (1, 3), strict=True):
        np.testing.assert_array_equal(mask_of(instance), value == VALUES)
    assert source[0].instances[1].box == (50, 20, 90, 70)


def test_mask_images_may_be_tiffs_and_are_required(tmp_path):
    write(tmp_path, ending=".tif")
    assert len(open_format("masks", tmp_path)[0].instances) == 2
    (tmp_path / "PedMasks/a.tif").rename(tmp_path / "PedMasks/a.gif")
    with refused(tmp_path / "PedMasks"):
        open_format("masks", tmp_path)


def test_two_mask_images_of_one_image_are_a_fault(tmp_path):
    write(tmp_path)
    write(tmp_path, ending=".png")
    check_lines(faults("masks", tmp_path), tmp_path / "PedMasks", ("a_mask.png", "a.png"))


def test_mask_images_below_the_image_folder_are_not_images(tmp_path):
    for name in ("a", "b"):
        write_picture(tmp_path / f"{name}.jpg")
        save(tmp_path / f"masks/{name}.png", VALUES, "gray")
    source = open_format("masks", tmp_path)
    assert [source[i].file_name for i in range(len(source))] == ["a.jpg", "b.jpg"]


def test_folders_may_have_other_names(tmp_path):
    write_picture(tmp_path / "photos/x/a.jpg")
    (tmp_path / "drawn/x").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "drawn/x/a.png"), VALUES)
    source = open_format("masks", tmp_path, images="photos", annotations="drawn")
    assert source[0].file_name == "x/a.jpg"
    assert len(source[0].instances) == 2


def broken_masks(folder: Path) -> dict[str, tuple[object, ...]]:
    """Write broken mask images; return what the fault of each names, by file name."""
    noise = np.random.default_rng(0).integers(0, 2**16, (HEIGHT, WIDTH)).astype(np.uint16)
    files = {
        "b_mask.png": (b"", ()),
        "c_mask.png": (cv2.imencode(".png", VALUES)[1].tobytes()[:60], ()),
        "d_mask.png": (cv2.imencode(".png", np.dstack([VALUES] * 3))[1], (3,)),
        "e_mask.png": (cv2.imencode(".png", noise)[1], (len(np.unique(noise)),)),
    }
    for name, (data, _) in files.items():
        (folder / "PedMasks" / name).write_bytes(bytes(data))
    return {name: named for name, (_, named) in files.items()}


def test_each_broken_mask_image_is_one_line(tmp_path):
    write(tmp_path)
    for name in "bcdef":
        write_picture(tmp_path / f"PNGImages/{name}.png")
    named = broken_masks(tmp_path)
    save(tmp_path / "PedMasks/f_mask.png", VALUES[:40, :60], "gray")
    save(tmp_path / "PedMasks/g_mask.png", VALUES, "gray")
    named |= {"f_mask.png": (60, 40, WIDTH, HEIGHT)}
    named |= {"g_mask.png": ("g", tmp_path / "PNGImages")}
    expected = [(name, *parts) for name, parts in named.items()]
    check_lines(faults("masks", tmp_path), tmp_path / "PedMasks", *expected)
    source = open_format("masks", tmp_path, Labels(on_error="skip"))
    assert source[0].file_name == "a.png"


def test_a_missing_folder_is_one_line(tmp_path):
    write_picture(tmp_path / "PNGImages/a.png")
    with refused(tmp_path / "masks", "config.data.images", "annotations"):
        open_format("masks", tmp_path, annotations="masks")


def blurred(values: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(values, (0, 0), 1.0)


def half_size(values: np.ndarray) -> np.ndarray:
    height, width = values.shape
    twice = cv2.resize(values, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    turned = cv2.warpAffine(
        twice, cv2.getRotationMatrix2D((width, height), 20, 1), twice.shape[::-1]
    )
    return cv2.resize(turned, (width, height), interpolation=cv2.INTER_AREA)


def as_jpeg(values: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", values)[1], cv2.IMREAD_GRAYSCALE)


@pytest.mark.parametrize("change", [blurred, half_size, as_jpeg])
@pytest.mark.parametrize("factor", [40, 85])
def test_changed_masks_are_faults_that_say_why(tmp_path, change, factor):
    write(tmp_path, "good")
    write(tmp_path, values=change(factor * VALUES))
    check_lines(faults("masks", tmp_path), tmp_path / "PedMasks", ("a_mask.png", "edges"))
    source = open_format("masks", tmp_path, Labels(on_error="skip"))
    assert [source[i].file_name for i in range(len(source))] == ["good.png"]


@pytest.mark.parametrize(("kind", "lossless"), [("JPEG", False), ("WEBP", False), ("WEBP", True)])
@pytest.mark.parametrize("ending", [".png", "own"])
def test_formats_that_change_values_are_faults(tmp_path, kind, lossless, ending):
    write(tmp_path, "good")
    write_picture(tmp_path / "PNGImages/a.png")
    name = f"a{f'.{kind.lower()}' if ending == 'own' else ending}"
    path = tmp_path / "PedMasks" / name
    Image.fromarray(VALUES).convert("RGB").save(path, kind, lossless=lossless)
    ((first, *more),) = [faults("masks", tmp_path)]
    assert not more
    # A WebP without loss fails only because it has three channels.
    check_lines([first], tmp_path / "PedMasks", (name, "3" if lossless else "PNG"))


def test_touching_and_thin_instances_are_no_blur(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.integers(0, HEIGHT, (150, 2))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    nearest = ((y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2).argmin(-1)
    cells = rng.permutation(150)[nearest].astype(np.uint8)
    lines = np.zeros_like(cells)
    for value in range(1, 12):  # one pixel thick, crossing each other
        start, end = rng.integers(0, (WIDTH, HEIGHT), (2, 2)).tolist()
        cv2.line(lines, start, end, value)
    write(tmp_path, "cells", cells)
    write(tmp_path, "lines", lines)
    source = open_format("masks", tmp_path)
    assert [len(source[i].instances) for i in range(2)] == [
        len(np.unique(values)) - (0 in values) for values in (cells, lines)
    ]
