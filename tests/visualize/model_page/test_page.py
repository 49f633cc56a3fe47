"""The page of a model: it has each image of the original notebooks, and none is blank."""

import re

import cv2
import jax
import numpy as np
import pytest
from mistakes import check_names, refused

from mtl_jax.images.decode import encode_png
from mtl_jax.runs.loading import load_run
from mtl_jax.visualize.__main__ import main
from mtl_jax.visualize.model_page.architecture import layers
from mtl_jax.visualize.model_page.weights import array_numbers, dead_channels

# The images of matterport's notebooks inspect_model and inspect_weights, and their names here.
NOTEBOOK = {
    "predictions": "detections",
    "colour splash": "splash",
    "overlaps of predictions and annotations": "overlaps",
    "1a RPN targets": "rpn_targets",
    "1b top anchors": "top_anchors",
    "top anchors before and after refinement": "anchors_refined",
    "refined anchors, clipped": "anchors_clipped",
    "refined anchors after NMS": "anchors_nms",
    "final proposals": "proposals",
    "2 final detections": "filter_nms",
    "RoIs before refinement": "rois",
    "RoIs after refinement": "rois_refined",
    "RoIs without background": "filter_background",
    "RoIs above the threshold": "filter_score",
    "3 mask targets": "mask_targets",
    "predicted 28x28 masks": "masks_raw",
    "full-size masks": "masks_full",
    "input image": "input",
    "activations res2c": "activations_C2",
    "activations res4w": "activations_C4",
    "histograms of RPN deltas": "rpn_histograms",
    "scatter of proposals": "proposal_corners",
    "weight histograms": "weights",
}
OF_ANNOTATIONS = {"overlaps", "rpn_targets", "mask_targets"}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOK.values())
def test_each_image_exists_and_is_not_blank(model_page, name):
    image = cv2.imread(str(model_page / f"{name}.png"))
    assert image.std() > 3


@pytest.mark.slow
def test_the_page_contains_the_numbers(model_page, fresh_run):
    text = (model_page / "index.html").read_text()
    trained = load_run(fresh_run).variables["params"]
    total = sum(np.size(leaf) for leaf in jax.tree.leaves(trained))
    for expected in (f"{total:,}", "<td>backbone/stem/conv1/kernel</td>", "P6"):
        assert expected in text
    assert re.search(r"<td>[^<]*\bNMS\b[^<]*\b0\.5\b[^<]*</td><td class=\"number\">\d+</td>", text)
    assert "://" not in text
    assert (model_page / "architecture.svg").read_text().startswith("<svg")


@pytest.mark.slow
def test_an_image_outside_the_data_is_shown_without_annotations(fresh_run, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (90, 70, 3), np.uint8)
    (tmp_path / "photo.png").write_bytes(encode_png(noise))
    output = tmp_path / "look"
    photo = str(tmp_path / "photo.png")
    assert (
        main(["model", "--workdir", str(fresh_run), "--input", photo, "--output", str(output)]) == 0
    )
    found = {path.stem for path in output.glob("*.png")}
    assert set(NOTEBOOK.values()) - found == OF_ANNOTATIONS


def test_mistakes_are_one_line(fresh_run, tmp_path):
    for name in ("none.jpg", "test:99999"):
        with refused(name):
            main(["model", "--workdir", str(fresh_run), "--input", name, "--output", str(tmp_path)])


def test_arrays_with_unusual_values_are_named():
    rng = np.random.default_rng(0)
    arrays = {
        "a/kernel": rng.normal(size=(3, 3)),
        "b/kernel": np.ones((3, 3)),
        "c/bias": np.zeros(3),
        "d/kernel": np.array([1.0, np.nan]),
        "e/scale": np.array([1.0, 2000.0]),
    }
    alerts = {numbers.name: numbers.alert for numbers in array_numbers(arrays) if numbers.alert}
    assert list(alerts) == ["b/kernel", "d/kernel", "e/scale"]
    check_names(alerts["d/kernel"], 1)  # entries that are not finite
    check_names(alerts["e/scale"], 1000)
    assert len(set(alerts.values())) == 3


def test_dead_layers_are_named():
    alive, dead = np.ones((1, 4, 4, 6)), np.ones((1, 4, 4, 6))
    dead[..., :4] = 0
    assert dead_channels({"alive": alive, "dead": dead}) == {"dead": (4, 6)}


def test_layers_have_their_outputs_and_parameters():
    activations = {"rpn/conv1/0": np.zeros((1, 8, 8, 2)), "rpn/conv1/1": np.zeros((1, 4, 4, 2))}
    arrays = {"rpn/conv1/kernel": np.zeros((3, 3, 2, 2)), "mask_head/conv1/bias": np.zeros(5)}
    assert [tuple(layer) for layer in layers(activations, arrays)] == [
        ("mask_head/conv1", "", 5),
        ("rpn/conv1", "8 x 8 x 2", 36),
    ]
