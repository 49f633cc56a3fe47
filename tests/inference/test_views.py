"""A run with test-time views: its config, and results in pixels of the image."""

import json

import numpy as np
import pytest
from mistakes import refused
from scenes import draw_variables

from mtl_jax import Predictor
from mtl_jax.config.overrides import load_config_file
from mtl_jax.config.resolve import resolve
from mtl_jax.data.records import Category
from mtl_jax.images.geometry import Geometry
from mtl_jax.runs.initial import variable_shapes
from mtl_jax.runs.saving import save_run
from mtl_jax.runs.setup import Setup

VIEWS = ("--config.eval.flip=True", "--config.eval.scales=(1.0,1.5)")
WIDTH = 110


def tiny_setup():
    config = load_config_file("configs/mtl_synthetic.py:tiny")
    config.model.detection.score_threshold = 0.0  # so that random weights have detections
    return Setup.build(resolve(config), [Category(7, "head")])


def test_a_field_that_an_older_run_does_not_store_has_its_default():
    stored = json.loads(json.dumps(tiny_setup().metadata))
    del stored["config"]["eval"]["flip"], stored["config"]["data"]["resize"]["zoom"]
    assert Setup.from_metadata(stored).experiment.eval.flip is False
    assert Setup.from_metadata(stored, VIEWS).experiment.eval.flip is True
    with refused("scales", (0.0,)):
        Setup.from_metadata(stored, ["--config.eval.scales=(0.0,)"])


def test_images_are_resized_to_the_largest_scale():
    setup = Setup.from_metadata(tiny_setup().metadata, VIEWS)
    assert setup.experiment.data.resize.canvases == ((192, 192),)
    stored = setup.metadata["config"]["data"]["resize"]
    assert stored["canvases"] == ((128, 128),)  # a run is stored as it was trained


@pytest.mark.slow
def test_a_mirrored_image_has_mirrored_results(tmp_path):
    setup = tiny_setup()
    save_run(tmp_path / "run", setup, draw_variables(variable_shapes(setup)))
    predictor = Predictor.from_checkpoint(tmp_path / "run", overrides=VIEWS)
    blocks = np.random.default_rng(0).integers(0, 256, (5, WIDTH // 10, 3), np.uint8)
    image = np.kron(blocks, np.ones((10, 10, 1), np.uint8))
    result, other = predictor(image), predictor(np.ascontiguousarray(image[:, ::-1]))
    assert len(result) > 5
    assert result.boxes[:, 2].max() <= WIDTH
    mirror = Geometry(-1.0, 1.0, float(WIDTH), 0.0)
    # Up to rounding: pixels of the enlarged image are integers.
    np.testing.assert_allclose(result.scores, other.scores, atol=1e-3)
    np.testing.assert_allclose(result.boxes, mirror.boxes(other.boxes), atol=0.5)
    for attribute in predictor.attributes:
        turned = attribute.move_prediction(other.attributes[attribute.name], mirror)
        scale = np.abs(turned).max()
        np.testing.assert_allclose(
            result.attributes[attribute.name], turned, atol=0.01 * scale, err_msg=attribute.name
        )
