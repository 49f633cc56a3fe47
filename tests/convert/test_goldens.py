"""torchvision's outputs, stored in files: the same comparison without PyTorch."""

from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
from convert import our_side, seeded
from flax.traverse_util import unflatten_dict

from mtl_jax.convert import torchvision_names as names
from mtl_jax.models.mask_rcnn.network import mask_rcnn
from mtl_jax.results import paste_mask

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("arch", seeded.ARCHS)]
FOLDER = Path(__file__).parent / "goldens"


@cache
def golden(arch):
    return dict(np.load(FOLDER / f"{arch}.npz"))


@cache
def ours(arch):
    """Return the options and the variables of an arch with the seeded weights."""
    options = names.arch_options(arch)
    tensors = names.to_variables(seeded.state(arch), names.model_tensors(options))
    return options, {"batch_stats": {}} | unflatten_dict(tensors, sep="/")


def test_features_and_proposals(arch):
    expected, (options, variables) = golden(arch), ours(arch)
    levels, (proposals,) = our_side.look_inside(options, seeded.CLASSES, variables, seeded.batch())
    for i, level in enumerate(levels):
        reference = expected[f"level/{i}"]
        assert np.abs(seeded.sample(level) - reference).max() <= 1e-4 * np.abs(reference).max()
    assert len(proposals) == len(expected["proposals"])
    # Proposals with almost equal scores may be in another order, which affects NMS.
    apart = np.abs(proposals[:, None] - expected["proposals"]).max(-1)
    assert np.mean(apart.min(0) < 0.02) > 0.99
    assert np.mean(apart.min(1) < 0.02) > 0.99


def test_detections(arch):
    expected, (options, variables) = golden(arch), ours(arch)
    predict = jax.jit(mask_rcnn(options, seeded.CLASSES).predict)
    found = jax.device_get(predict(variables, seeded.batch().inputs))
    count = len(expected["scores"])
    assert found.valid.sum() == count > 20
    boxes, scores = found.boxes[0, :count], found.scores[0, :count]
    order = np.array([np.abs(boxes - box).sum(1).argmin() for box in expected["boxes"]])
    assert sorted(order) == list(range(count))
    np.testing.assert_allclose(boxes[order], expected["boxes"], atol=0.02)
    np.testing.assert_allclose(scores[order], expected["scores"], atol=1e-4)
    np.testing.assert_array_equal(found.classes[0, order], expected["labels"])
    moved = np.abs(scores - expected["scores"])[order != np.arange(count)]
    assert (moved <= 2e-4).all()
    height, width = seeded.SIZE
    masks = [paste_mask(found.masks[0, i], found.boxes[0, i], height, width) for i in order]
    reference = np.unpackbits(expected["masks"]).reshape(-1, height, width)
    for mask, their in zip(masks, reference, strict=False):
        assert np.mean(mask != their) <= 1e-3


def test_losses_and_gradients(arch):
    expected, (options, variables) = golden(arch), ours(arch)
    terms, gradients = our_side.differentiate(options, seeded.CLASSES, variables, seeded.batch())
    for name, value in terms.items():
        assert value == pytest.approx(expected[f"loss/{name}"], rel=1e-3), name
    for name in seeded.PARTS:
        sample = seeded.sample(our_side.part(gradients, name))
        assert our_side.distance(sample, expected[f"gradient/{name}"]) <= 1e-2, name
