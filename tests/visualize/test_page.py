import re

import cv2
import numpy as np
from mistakes import refused

from mtl_jax.visualize.page import Page

NOISE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


def test_a_page_is_self_contained(tmp_path):
    page = Page("A & B")
    page.heading("<one>")
    page.text("x < y")
    page.list(["first", "second"])
    page.code(["a = 1", "b = 2"])
    page.table(("name", "value"), [("x", 1234), ("y", 0.12345), ("z", float("nan"))])
    page.image("flat", np.full((20, 30, 3), 7, np.uint8), "a plain one")
    page.image("noise", NOISE)
    assert page.write(tmp_path) == tmp_path / "index.html"
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    for expected in ("A &amp; B", "&lt;one&gt;", "x &lt; y", "1,234", "0.1235", "a plain one"):
        assert expected in text
    assert re.findall(r'(?:src|href)="(data:[\w/]*)', text) == [
        "data:",
        "data:image/png",
        "data:image/jpeg",
    ]
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert "://" not in text
    found = cv2.imread(str(tmp_path / "noise.png"))[..., ::-1]
    np.testing.assert_array_equal(found, NOISE)


def test_large_images_are_embedded_smaller_and_saved_in_full_size(tmp_path):
    page = Page("large")
    page.image("wide", np.zeros((10, 3200, 3), np.uint8))
    page.write(tmp_path)
    assert 'width="1600" height="5"' in (tmp_path / "index.html").read_text()
    assert cv2.imread(str(tmp_path / "wide.png")).shape == (10, 3200, 3)


def test_two_images_of_one_name_are_refused():
    page = Page("twice")
    page.image("a", NOISE)
    with refused("a.png", error=ValueError):
        page.image("a", NOISE)
