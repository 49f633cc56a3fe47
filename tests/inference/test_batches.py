"""A real model with random weights has the same detections in batches as in single images."""

from functools import partial

import cv2
import numpy as np
import pytest
import scripts
from scenes import draw_variables

from mtl_jax.config.overrides import load_config_file
from mtl_jax.config.resolve import resolve
from mtl_jax.data.synthetic.head_scenes import SyntheticSource
from mtl_jax.inference.predictor import Predictor
from mtl_jax.runs.initial import variable_shapes
from mtl_jax.runs.loading import Run, make_detect
from mtl_jax.runs.setup import Setup
from mtl_jax.training.sharding import make_mesh


@pytest.mark.slow
def test_batches_of_frames_have_the_detections_of_single_images():
    source = SyntheticSource(6, seed=5)
    config = load_config_file(str(scripts.ROOT / "configs/mtl_synthetic.py:tiny"))
    config.eval.batch_size = 4
    setup = Setup.build(resolve(config), source.categories)
    variables = draw_variables(variable_shapes(setup))
    detect = make_detect(setup.model, make_mesh())
    predictor = Predictor(Run(setup, variables, partial(detect, variables)))
    frames = [cv2.resize(np.asarray(source[i].image), (128, 96)) for i in range(6)]
    batched = list(predictor.predict_frames(frames))
    for frame, found in zip(frames, batched, strict=True):
        single = predictor(frame)
        assert len(found) == len(single) > 0
        np.testing.assert_array_equal(found.classes, single.classes)
        np.testing.assert_allclose(found.boxes, single.boxes, atol=0.01)
        np.testing.assert_allclose(found.scores, single.scores, atol=1e-4)
        np.testing.assert_allclose(found.mask_probabilities, single.mask_probabilities, atol=1e-3)
        for name, values in found.attributes.items():
            np.testing.assert_allclose(values, single.attributes[name], atol=0.01)
