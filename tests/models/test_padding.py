"""Results of an image do not depend on the size of its padded image."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from scenes import ATTRIBUTES, TINY, compile_model, random_batch

from mtl_jax.models.mask_rcnn.network import Network, mask_rcnn
from mtl_jax.models.padding import is_inside, normalize, seen_extent
from mtl_jax.training.step import make_loss

# Every anchor and region is sampled, so that nothing is random.
ALL = replace(
    TINY,
    rpn=replace(TINY.rpn, samples=20_000, convs=2),
    roi=replace(TINY.roi, samples=64),
    detection=replace(TINY.detection, score_threshold=0.0),
)
SIZES = np.array([[90, 70], [60, 96]], np.float32)
TIGHT, WIDE = (96, 96), (160, 128)  # P5 of the first has 3 x 3 cells: an odd number


def padded_batch(padded):
    """Return two images of `SIZES` in padded images of size `padded`, with gray padding."""
    batch = random_batch(size=96)._replace(sizes=SIZES)
    images = np.full((2, *padded, 3), 99, np.uint8)
    for row, image, (height, width) in zip(images, batch.images, SIZES.astype(int), strict=True):
        row[:height, :width] = image[:height, :width]
    return batch._replace(images=images)


def with_norms(kind):
    norms = dict(backbone="batch" if kind == "none" else kind, fpn=kind, box_head=kind)
    parts = {name: replace(getattr(ALL, name), norm=norm) for name, norm in norms.items()}
    return replace(ALL, **parts)


@pytest.mark.slow
@pytest.mark.parametrize("options", [with_norms("none"), with_norms("group"), with_norms("batch")])
def test_losses_gradients_and_detections_are_the_same_with_more_padding(options):
    model = mask_rcnn(options, 3, ATTRIBUTES)
    _, variables, _, predict = compile_model(model, padded_batch(TIGHT))
    results = []
    for padded in (TIGHT, WIDE):
        batch = padded_batch(padded)

        def loss(params, batch=batch):
            full = {**variables, "params": params}
            total, terms, stats = make_loss(model)(full, batch, jax.random.key(1))
            return total, (terms, stats)

        trained = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
        results.append((trained, predict(variables, batch)))
    (tight, found), (wide, again) = jax.device_get(results)
    assert found.valid.all()
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    for a, b in zip(jax.tree.leaves(tight), jax.tree.leaves(wide), strict=True):
        assert np.linalg.norm(a - b) <= 1e-3 * np.linalg.norm(b) + 1e-6


def test_the_used_part_ends_with_the_padded_image():
    extent = seen_extent(np.array([[90, 65], [10, 64]], np.float32), (90, 80), 32)
    np.testing.assert_array_equal(extent, [[90, 80], [32, 64]])
    np.testing.assert_array_equal(seen_extent(SIZES, WIDE, 0), [WIDE, WIDE])


def test_no_pixel_of_a_padding_row_is_inside():
    inside = np.asarray(is_inside(np.array([[3, 2], [3, 2]]), np.array([True, False]), (4, 5)))
    assert inside[0, :3, :2].all()
    assert inside.sum() == 6


def test_the_whole_padded_image_is_used_if_size_divisible_is_0():
    """Matterport's networks process the padding and have anchors in it."""
    batch = padded_batch(WIDE)
    variables = compile_model(mask_rcnn(TINY, 3), batch).variables

    def valid_anchors(options):
        network = Network(options, 3, (), False, train=False)
        return jax.jit(lambda v: network.apply(v, batch.inputs, method="steps").anchors.valid)(
            variables
        )

    cells = [int(np.ceil(WIDE[0] / s) * np.ceil(WIDE[1] / s)) for s in (4, 8, 16, 32, 64)]
    whole = valid_anchors(replace(TINY, size_divisible=0))
    assert whole.shape == (2, sum(cells) * TINY.rpn.anchors_per_cell)
    assert whole.all()
    assert not valid_anchors(TINY).all()


def test_normalize_sets_the_padding_to_0():
    batch = random_batch(1)._replace(sizes=np.array([[10, 20]], np.float32))
    images = normalize(batch.inputs, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    expected = (batch.images[0, :10, :20] / 255 - [0.5, 0.4, 0.3]) / 0.2
    np.testing.assert_allclose(images[0, :10, :20], expected, rtol=1e-5, atol=1e-6)
    assert np.all(images[0, 10:] == 0)
    assert np.all(images[0, :, 20:] == 0)
