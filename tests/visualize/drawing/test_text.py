"""Text in many scripts on images and plots: nothing is lost, and names can be told apart."""

from itertools import combinations

import numpy as np
import pytest

from mtl_jax.visualize.drawing import plots, text
from mtl_jax.visualize.drawing.labels import Labels
from mtl_jax.visualize.drawing.sheets import sheet

NAMES = [
    "cat",
    "кот",
    "γάτα",
    "猫",
    "狗/犬",
    "人",
    "ネコ",
    "고양이",
    "חתול",
    "قطة",
    "แมว",
    "बिल्ली",
    "\U0001f638",
]


def label(name: str) -> np.ndarray:
    image = np.zeros((80, 160, 3), np.uint8)
    box = np.array([10.0, 40.0, 150.0, 75.0])
    assert Labels(80, 160, box[None]).put(image, box, name, [f"{name} 0.98"], (200, 200, 200))
    return image


@pytest.mark.parametrize("kind", [label, lambda name: text.draw_text(name, 20).opacity])
def test_names_can_be_told_apart(kind):
    drawn = {name: kind(name) for name in NAMES}
    for a, b in combinations(NAMES, 2):
        assert not np.array_equal(drawn[a], drawn[b]), (a, b)


def test_characters_without_a_font_are_code_points_and_reported_once(monkeypatch, caplog):
    monkeypatch.setattr(text, "_fonts", lambda: (text.DEJAVU,))
    for cache in (text._runs, text._font_of, text._report):
        cache.cache_clear()
    assert text._runs("猫 1") == ((text.DEJAVU, "U+732B 1"),)
    text.draw_text("狗犬", 20)
    (record,) = caplog.records
    assert "Cjk" in record.getMessage()
    for cache in (text._runs, text._font_of, text._report):
        cache.cache_clear()


def test_arabic_is_joined_and_runs_to_the_left():
    joined, apart = (text.width_of(name, 40) for name in ("قطة", "ق ط ة"))
    assert joined < 0.8 * apart
    # Alef, the first letter, is the tall one.
    drawn = text.draw_text("اب", 40).opacity > 128
    left, right = (np.ptp(np.nonzero(half)[0]) for half in np.array_split(drawn, 2, axis=1))
    assert right > 1.5 * left


def test_a_line_may_extend_beyond_the_image():
    whole = np.full((60, 300, 3), 255, np.uint8)
    text.write(whole, "beyond 猫", (100, 40), 30, (0, 0, 0))
    for x, y in ((-50, 40), (260, 40), (10, 2), (10, 70), (900, 40), (-900, 40)):
        image = np.full((60, 300, 3), 255, np.uint8)
        text.write(image, "beyond 猫", (x, y), 30, (0, 0, 0))
    part = np.full((60, 100, 3), 255, np.uint8)
    text.write(part, "beyond 猫", (20, 40), 30, (0, 0, 0))
    np.testing.assert_array_equal(part[:, 20:], whole[:, 100:180])


@pytest.mark.parametrize(
    "names", [("猫", "狗/犬"), ("قطة", "كلب"), ("แมว", "หมา"), ("a$b", "$\\frac$")]
)
def test_plots_show_names_without_warnings(names, capfd):
    """Warnings are errors in all tests."""
    counts = np.array([[3, 1], [0, 2]])
    shown = plots.confusion(counts, names)
    assert not np.array_equal(shown, plots.confusion(counts, names[::-1]))
    bars = plots.bars(dict(zip(names, (2, 1), strict=True)), f"objects {names[0]}")
    assert not np.array_equal(
        bars, plots.bars(dict(zip(names[::-1], (2, 1), strict=True)), "objects")
    )
    assert capfd.readouterr().err == ""


def test_rotated_text_of_plots_keeps_its_place():
    """Draw a word of DejaVu by both paths."""

    def ink(angle: int) -> list[np.ndarray]:
        image = plots.plot(lambda axes: axes.text(0.5, 0.5, "OXO", rotation=angle, fontsize=30))
        rows, columns = np.nonzero(image[60:-60, 100:-20].min(-1) < 128)
        return [rows, columns]

    for angle in (0, 45, 90, 200):
        usual = ink(angle)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(text, "is_simple", lambda s: not s.startswith("OXO"))
            own = ink(angle)
        for a, b in zip(usual, own, strict=True):
            assert abs(a.mean() - b.mean()) < 3
            assert abs(np.ptp(a) - np.ptp(b)) < 6


def test_captions_of_sheets_keep_their_script():
    images = [np.zeros((50, 50, 3), np.uint8)]
    a, b = (sheet(images, 1, [caption], (60, 120)) for caption in ("猫.png", "狗.png"))
    assert not np.array_equal(a, b)
