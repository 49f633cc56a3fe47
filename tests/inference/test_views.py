"""A run with views: what its config says, and results in the picture's own pixels."""

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
from mtl_jax.runs.loading import save_run
from mtl_jax.runs.setup import Setup

VIEWS = ("--config.eval.flip=True", "--config.eval.scales=(1.0,1.5)")
WIDTH = 110


def tiny_setup():
    config = load_config_file("configs/mtl_synthetic.py:tiny")
    config.model.detection.score_threshold = 0.0  # random weights find something, whatever it is
    return Setup.build(resolve(config), [Category(7, "head")])


def test_a_run_that_is_older_than_a_field_has_its_default():
    stored = json.loads(json.dumps(tiny_setup().metadata))
    del stored["config"]["eval"]["flip"], stored["config"]["data"]["resize"]["zoom"]
    assert Setup.from_metadata(stored).experiment.eval.flip is False
    assert Setup.from_metadata(stored, VIEWS).experiment.eval.flip is True
    with refused("scales", (0.0,)):
        Setup.from_metadata(stored, ["--config.eval.scales=(0.0,)"])


def test_pictures_come_at_the_largest_of_the_scales():
    setup = Setup.from_metadata(tiny_setup().metadata, VIEWS)
    assert setup.experiment.data.resize.canvases == ((192, 192),)
    stored = setup.metadata["config"]["data"]["resize"]
    assert stored["canvases"] == ((128, 128),)  # a run is stored as it was trained


@pytest.mark.slow
def test_a_mirrored_picture_has_mirrored_results(tmp_path):
    setup = tiny_setup()
    save_run(tmp_path / "run", setup, draw_variables(variable_shapes(setup)))
    predictor = Predictor.from_checkpoint(tmp_path / "run", overrides=VIEWS)
    blocks = np.random.default_rng(0).integers(0, 256, (5, WIDTH // 10, 3), np.uint8)
    picture = np.kron(blocks, np.ones((10, 10, 1), np.uint8))
    result, other = predictor(picture), predictor(np.ascontiguousarray(picture[:, ::-1]))
    assert len(result) > 5
    assert result.boxes[:, 2].max() <= WIDTH
    mirror = Geometry(-1.0, 1.0, float(WIDTH), 0.0)
    # To rounding: colours of the enlarged picture are whole numbers.
    np.testing.assert_allclose(result.scores, other.scores, atol=1e-3)
    np.testing.assert_allclose(result.boxes, mirror.boxes(other.boxes), atol=0.5)
    for attribute in predictor.attributes:
        turned = attribute.move_prediction(other.attributes[attribute.name], mirror)
        scale = np.abs(turned).max()
        np.testing.assert_allclose(
            result.attributes[attribute.name], turned, atol=0.01 * scale, err_msg=attribute.name
        )
