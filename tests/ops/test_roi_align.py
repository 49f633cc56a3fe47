import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from mtl_jax.ops import roi_align
from mtl_jax.ops.roi_align import roi_levels

# Compiled, because many gathers are slow operation by operation.
multilevel_roi_align = jax.jit(
    roi_align.multilevel_roi_align,
    static_argnums=(3, 4),
    static_argnames=("sampling_ratio", "aligned"),
)

multilevel_crop = jax.jit(roi_align.multilevel_crop, static_argnums=4)

STRIDES = (4, 8, 16)
SIDE = 64
BOXES = np.array(
    [
        [3.3, 7.9, 41.2, 30.4],
        [0, 0, 64, 64],  # the whole image
        [-9, 20, 12, 70],  # beyond two borders
        [55, -3, 80, 5],
        [10, 10, 10, 10],  # no area
        [30, 40, 20, 35],  # corners swapped
        [62, 62, 63.9, 63.9],
        [-500, -500, -400, -400],  # far outside
        [1, 30, 63, 31],  # long and thin
    ],
    np.float32,
)
LEVELS = np.arange(len(BOXES)) % 3


def pyramid(channels=3, seed=0):
    rng = np.random.default_rng(seed)
    sides = [SIDE // stride for stride in STRIDES]
    return [rng.normal(size=(side, side, channels)).astype(np.float32) for side in sides]


def ramp(stride):
    """Return a map whose cells contain the x and y of their centres, in pixels."""
    centres = (np.arange(SIDE // stride, dtype=np.float32) + 0.5) * stride
    return np.stack(np.meshgrid(centres, centres), -1)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [1, 2, 3])
def test_pools_as_plain_loops_do_each_box_from_its_level(aligned, ratio):
    features = pyramid()
    pooled = multilevel_roi_align(
        features, BOXES, LEVELS, STRIDES, 5, sampling_ratio=ratio, aligned=aligned
    )
    for r, (box, level) in enumerate(zip(BOXES, LEVELS, strict=True)):
        expected = oracles.roi_align(features[level], box, STRIDES[level], 5, ratio, aligned)
        np.testing.assert_allclose(pooled[r], expected, atol=2e-5)


@pytest.mark.parametrize("aligned", [False, True])
def test_is_torchvisions(aligned):
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    feature = pyramid()[0]
    nchw = torch.tensor(feature).permute(2, 0, 1)[None].requires_grad_()
    theirs = torchvision.ops.roi_align(nchw, [torch.tensor(BOXES)], 7, 0.25, 2, aligned)
    gradient = np.random.default_rng(1).normal(size=(len(BOXES), 7, 7, 3)).astype(np.float32)
    theirs.backward(torch.tensor(gradient).permute(0, 3, 1, 2))
    level = jnp.zeros(len(BOXES), jnp.int32)
    ours, pull = jax.vjp(
        lambda f: multilevel_roi_align([f], BOXES, level, (4,), 7, aligned=aligned), feature
    )
    np.testing.assert_allclose(ours, theirs.detach().permute(0, 2, 3, 1), atol=2e-5)
    np.testing.assert_allclose(jax.jit(pull)(gradient)[0], nchw.grad[0].permute(1, 2, 0), atol=5e-5)


def test_fault_2_a_ramp_is_sampled_exactly_at_the_bin_centres():
    boxes = np.array([[8, 12, 40, 36], [13.7, 9.1, 50.2, 47.6], [8, 8, 56, 56]], np.float32)
    for level, stride in enumerate(STRIDES):
        levels = np.full(3, level)
        args = ([ramp(s) for s in STRIDES], boxes, levels, STRIDES, 4)
        part = (np.arange(4) + 0.5) / 4
        x = boxes[:, :1] + part * (boxes[:, 2:3] - boxes[:, :1])
        y = boxes[:, 1:2] + part * (boxes[:, 3:] - boxes[:, 1:2])
        centres = np.stack(
            [np.broadcast_to(x[:, None], (3, 4, 4)), np.broadcast_to(y[:, :, None], (3, 4, 4))], -1
        )
        inside = (centres > stride / 2) & (centres < SIDE - stride / 2)
        exact = np.asarray(multilevel_roi_align(*args, aligned=True))
        np.testing.assert_allclose(exact[inside], centres[inside], rtol=1e-5)
        # torchvision's convention, used to train its weights, samples half a cell farther.
        shifted = np.asarray(multilevel_roi_align(*args, aligned=False))
        within = inside & (centres + stride < SIDE - stride / 2)
        np.testing.assert_allclose(shifted[within], centres[within] + stride / 2, rtol=1e-5)


def test_fault_2_flips_commute():
    features = pyramid()
    mirrored = [f[:, ::-1] for f in features]
    boxes = BOXES[:4]
    flipped = np.stack([SIDE - boxes[:, 2], boxes[:, 1], SIDE - boxes[:, 0], boxes[:, 3]], 1)
    levels = LEVELS[:4]
    straight = multilevel_roi_align(features, boxes, levels, STRIDES, 6, aligned=True)
    turned = multilevel_roi_align(mirrored, flipped, levels, STRIDES, 6, aligned=True)
    np.testing.assert_allclose(turned[:, :, ::-1], straight, atol=5e-5)


def test_fault_2_resizes_commute():
    """An image of twice the size, on the next coarser level, is pooled to the same values."""
    features = pyramid()
    same = [features[0], features[0]]
    pooled = multilevel_roi_align(same, BOXES[:4], np.zeros(4, int), (4, 8), 6, aligned=True)
    doubled = multilevel_roi_align(same, 2 * BOXES[:4], np.ones(4, int), (4, 8), 6, aligned=True)
    np.testing.assert_allclose(doubled, pooled, atol=1e-6)
    smooth = [ramp(4), ramp(8)]
    inner = np.array([[16, 20, 40, 44]], np.float32)
    fine, coarse = (
        multilevel_roi_align(smooth, inner, np.array([level]), (4, 8), 6, aligned=True)
        for level in (0, 1)
    )
    np.testing.assert_allclose(fine, coarse, rtol=1e-5)


@pytest.mark.parametrize("ratio", [1, 2])
@pytest.mark.parametrize("backward", [roi_align.scatter, roi_align.spread])
def test_both_backward_formulations_are_the_gradient(backward, ratio, monkeypatch):
    for name in ("SCATTERED", "SPREAD"):
        monkeypatch.setattr(roi_align, name, 4)  # several chunks, the last one not full
    monkeypatch.setattr(roi_align, "scatter", backward)
    features = pyramid()
    boxes, levels = np.concatenate([BOXES, BOXES[:1]]), np.append(LEVELS, LEVELS[0])
    gradient = np.random.default_rng(2).normal(size=(len(boxes), 5, 5, 3)).astype(np.float32)
    _, pull = jax.vjp(
        lambda f: roi_align.multilevel_roi_align(f, boxes, levels, STRIDES, 5, ratio), features
    )
    expected = [np.zeros(f.shape) for f in features]
    for box, level, g in zip(boxes, levels, gradient, strict=True):
        expected[level] += oracles.roi_align_gradient(
            features[level], box, STRIDES[level], g, ratio
        )
    for ours, theirs in zip(jax.jit(pull)(gradient)[0], expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_fault_3_rows_of_padding_change_nothing():
    features = pyramid()
    fills = np.array([np.nan, np.inf, -np.inf, 1e30], np.float32)[:, None]
    boxes = jnp.concatenate([BOXES, np.broadcast_to(fills, (4, 4))])
    levels = jnp.append(LEVELS, roi_levels(boxes[-4:], 2, 4))

    def loss(features, boxes, levels):
        pooled = multilevel_roi_align(features, boxes, levels, STRIDES, 5)[: len(BOXES)]
        return jnp.sum(pooled**2), pooled

    # Optimized, as for users. Otherwise XLA rounds sums differently for each number of rows.
    optimized = {"xla_backend_optimization_level": 3}
    run = jax.jit(jax.grad(loss, has_aux=True), compiler_options=optimized)
    padded, plain = run(features, boxes, levels), run(features, BOXES, jnp.asarray(LEVELS))
    jax.tree.map(np.testing.assert_array_equal, padded, plain)
    chex.assert_tree_all_finite(multilevel_roi_align(features, boxes, levels, STRIDES, 5))


def test_under_vmap_each_image_reads_its_own_features():
    first, second = pyramid(seed=1), pyramid(seed=2)
    boxes = np.stack([BOXES, BOXES[::-1]])
    levels = np.stack([LEVELS, LEVELS[::-1]])

    def pool(features, boxes, levels):
        return multilevel_roi_align(features, boxes, levels, STRIDES, 4)

    def loss(features, boxes, levels):
        return jnp.sum(jnp.sin(pool(features, boxes, levels)))

    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), first, second)
    pooled = jax.vmap(pool)(both, boxes, levels)
    gradients = jax.jit(jax.vmap(jax.grad(loss)))(both, boxes, levels)
    for b, features in enumerate((first, second)):
        np.testing.assert_allclose(pooled[b], pool(features, boxes[b], levels[b]), atol=1e-6)
        alone = jax.jit(jax.grad(loss))(features, boxes[b], levels[b])
        jax.tree.map(
            lambda x, y, b=b: np.testing.assert_allclose(x[b], y, atol=1e-5), gradients, alone
        )


def test_half_precision_features_are_summed_in_full():
    features = [jnp.asarray(f, jnp.bfloat16) for f in pyramid()]
    pooled, pull = jax.vjp(lambda f: multilevel_roi_align(f, BOXES, LEVELS, STRIDES, 5), features)
    full = multilevel_roi_align(
        [f.astype(jnp.float32) for f in features], BOXES, LEVELS, STRIDES, 5
    )
    assert pooled.dtype == jnp.bfloat16
    assert {g.dtype for g in jax.jit(pull)(pooled)[0]} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_array_equal(pooled, full.astype(jnp.bfloat16))


def test_a_level_of_one_cell():
    feature = np.full((1, 1, 2), 3.0, np.float32)
    box = np.array([[0, 0, 32, 32]], np.float32)
    pooled = multilevel_roi_align([feature], box, np.zeros(1, int), (32,), 3)
    np.testing.assert_allclose(pooled, 3)


def test_levels_are_those_of_the_paper():
    sides = np.array([1, 56, 111.9, 112, 223.9, 224, 447, 448, 5000], np.float32)
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], 1)
    np.testing.assert_array_equal(roi_levels(boxes), [0, 0, 0, 1, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(
        roi_levels(boxes, canonical_size=56.0), [0, 2, 2, 3, 3, 3, 3, 3, 3]
    )


def test_levels_of_degenerate_boxes_are_the_finest():
    boxes = np.array([[3, 3, 3, 3], [9, 9, 2, 2], [np.nan] * 4, [0, 0, 0, 50]], np.float32)
    np.testing.assert_array_equal(jax.jit(roi_levels)(boxes), 0)


def test_levels_are_torchvisions():
    torch = pytest.importorskip("torch")
    poolers = pytest.importorskip("torchvision.ops.poolers")
    rng = np.random.default_rng(3)
    boxes = np.zeros((300, 4), np.float32)
    boxes[:, 2:] = np.exp(rng.uniform(1, 7, (300, 2)))
    expected = poolers.LevelMapper(2, 5)([torch.tensor(boxes)])
    np.testing.assert_array_equal(roi_levels(boxes), expected)


def test_nearest_levels_are_matterports():
    """Matterport's formula, in fractions of 800 x 1024; halves are rounded to the even level."""
    rng = np.random.default_rng(4)
    sides = np.exp(rng.uniform(0, 7, (300, 2)))
    sides[:6] = [[0, 9], [158, 158], [159, 159], [316, 316], [317, 317], [224 * 2**0.5] * 2]
    shares = sides / (800, 1024)
    with np.errstate(divide="ignore"):
        steps = np.log2(np.sqrt(shares.prod(1)) / (224 / np.sqrt(800 * 1024)))
    expected = np.clip(4 + np.round(steps), 2, 5) - 2
    boxes = np.concatenate([np.zeros((300, 2)), sides], 1).astype(np.float32)
    np.testing.assert_array_equal(roi_levels(boxes, nearest=True), expected)


CROPPED = np.concatenate([BOXES, [[0, 0, 63, 63], [5.5, 0, 63, 11], [63, 63, 63, 63]]]).astype(
    np.float32
)
EXTENT = np.array([63, 63])  # inclusive boxes of an image of 64


def tensorflow_crop(tf, feature, boxes, size):
    """Return TensorFlow's samples of boxes in pixels, from (0, 0) to `EXTENT`.

    Boxes that end on the border are made to end a millionth before it, so that rounding keeps the
    last sample inside.
    """
    normal = boxes[:, [1, 0, 3, 2]] / 63
    normal = np.where(normal == 1, 1 - 1e-6, normal).astype(np.float32)
    rows = np.zeros(len(boxes), np.int32)
    return tf.image.crop_and_resize(feature[None], normal, rows, [size, size])


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("level", range(3))
def test_crops_are_tensorflows_and_so_is_their_gradient(level, size):
    tf = pytest.importorskip("tensorflow")
    feature = pyramid()[level]
    gradient = np.random.default_rng(5).normal(size=(len(CROPPED), size, size, 3))
    gradient = gradient.astype(np.float32)
    with tf.GradientTape() as tape:
        variable = tf.Variable(feature)
        theirs = tensorflow_crop(tf, variable, CROPPED, size)
        loss = tf.reduce_sum(theirs * gradient)
    levels = np.full(len(CROPPED), level, np.int32)
    ours, pull = jax.vjp(lambda f: multilevel_crop(f, CROPPED, levels, EXTENT, size), pyramid())
    np.testing.assert_allclose(ours, theirs, atol=2e-4)
    slopes = jax.jit(pull)(gradient)[0][level]
    np.testing.assert_allclose(slopes, tape.gradient(loss, variable), atol=5e-4)


@pytest.mark.parametrize("backward", [roi_align.scatter, roi_align.spread])
def test_the_gradient_of_a_crop_is_its_slope(backward, monkeypatch):
    monkeypatch.setattr(roi_align, "scatter", backward)
    features = pyramid()
    levels = np.arange(len(CROPPED), dtype=np.int32) % 3
    weight = np.random.default_rng(6).normal(size=(len(CROPPED), 4, 4, 3)).astype(np.float32)

    def total(features):
        return jnp.sum(roi_align.multilevel_crop(features, CROPPED, levels, EXTENT, 4) * weight)

    gradient = jax.jit(jax.grad(total))(features)
    chex.assert_tree_all_finite(gradient)
    step = [np.random.default_rng(7).normal(size=f.shape).astype(np.float32) for f in features]
    # The sum is linear in the features, so its slope is the same for a step of any length.
    moved = [f + s for f, s in zip(features, step, strict=True)]
    slope = sum(np.sum(np.asarray(g) * s) for g, s in zip(gradient, step, strict=True))
    assert float(total(moved) - total(features)) == pytest.approx(slope, rel=1e-4, abs=1e-3)


def test_a_crop_that_ends_on_the_border_reads_it():
    """Rounding puts the last sample of some of these boxes outside, where TensorFlow reads 0."""
    feature = np.ones((16, 16, 1), np.float32)
    starts = np.random.default_rng(8).uniform(0, 60, (500, 2))
    boxes = np.concatenate([starts, np.full((500, 2), 63)], 1).astype(np.float32)
    pooled = multilevel_crop([feature], boxes, np.zeros(500, np.int32), EXTENT, 7)
    np.testing.assert_allclose(pooled, 1, atol=1e-6)
    beyond = multilevel_crop([feature], boxes + 1, np.zeros(500, np.int32), EXTENT, 7)
    np.testing.assert_array_equal(beyond[:, -1], 0)


def test_crops_in_rows_of_padding_are_finite():
    fills = np.array([np.nan, np.inf, -np.inf, 1e30], np.float32)[:, None]
    boxes = np.broadcast_to(fills, (4, 4))
    chex.assert_tree_all_finite(multilevel_crop(pyramid(), boxes, np.zeros(4, int), EXTENT, 3))
