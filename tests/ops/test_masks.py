import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from mtl_jax.ops import masks as mask_ops

mask_targets = jax.jit(mask_ops.mask_targets, static_argnames=("side", "aligned"))

HEIGHT, WIDTH = 90, 120
WHOLE = np.array([0, 0, WIDTH, HEIGHT], np.float32)
BOXES = np.array(
    [
        [3.2, 5.7, 60.1, 44.4],
        [0, 0, 120, 90],
        [80, 10, 83, 88],
        [50, 50, 50, 50],
        [119, 89, 120, 90],
    ],
    np.float32,
)


def blobs(count=3):
    """Return discs, as coverage 0..255 of the padded image's pixels."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    centres, radii = rng.uniform(20, 80, (count, 2)), rng.uniform(15, 40, count)
    inside = [np.hypot(y - c[0], x - c[1]) < r for c, r in zip(centres, radii, strict=True)]
    return 255 * np.stack(inside).astype(np.uint8)


@pytest.mark.parametrize("aligned", [False, True])
def test_full_size_masks_are_pooled_as_plain_loops_do(aligned):
    masks, index = blobs(), np.array([0, 1, 2, 0, 1])
    frames = np.tile(WHOLE, (3, 1))
    targets = mask_targets(masks, frames, BOXES, index, 14, aligned)
    for r, box in enumerate(BOXES):
        mask = masks[index[r]][..., None] / 255
        expected = oracles.roi_align(mask, box, 1, 14, 0, aligned)[..., 0]
        np.testing.assert_allclose(targets[r], expected, atol=1e-4)


def test_full_size_masks_are_torchvisions(monkeypatch):
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    masks, index = blobs(), np.array([0, 1, 2, 0, 1])
    regions = torch.tensor(np.c_[index, BOXES].astype(np.float32))
    maps = torch.tensor(masks / 255, dtype=torch.float32)[:, None]
    expected = torchvision.ops.roi_align(maps, regions, 28, 1.0, -1)[:, 0]
    frames = np.tile(WHOLE, (3, 1))
    np.testing.assert_allclose(
        mask_targets(masks, frames, BOXES, index, 28, False), expected, atol=1e-4
    )
    monkeypatch.setattr(mask_ops, "MAX_CELLS", 2 * HEIGHT * WIDTH)  # two regions at a time
    np.testing.assert_allclose(
        mask_ops.mask_targets(masks, frames, BOXES, index, 28, False), expected, atol=1e-4
    )


def test_a_mask_seen_through_its_own_box_is_that_mask():
    mask = np.random.default_rng(1).integers(0, 256, (1, 28, 28)).astype(np.uint8)
    box = np.array([[10, 20, 66, 90]], np.float32)
    same = mask_targets(mask, box, box, np.zeros(1, int), 28, aligned=True)
    np.testing.assert_allclose(same[0], mask[0] / 255, atol=1e-5)
    fine = np.kron(mask, np.ones((1, 4, 4), np.uint8))
    same = mask_targets(fine, box, box, np.zeros(1, int), 28, aligned=True)
    np.testing.assert_allclose(same[0], mask[0] / 255, atol=1e-5)


def test_a_mask_cropped_to_its_box_has_nearly_the_targets_of_the_full_one():
    """`aligned` has the same meaning for both; they differ only by the crop's resolution."""
    full = np.zeros((1, HEIGHT, WIDTH), np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    full[0][np.hypot(y - 45, x - 62) < 28] = 255
    frame = np.array([[34, 17, 90, 73]], np.float32)
    crop = np.kron(full[:, 17:73, 34:90], np.ones((1, 2, 2), np.uint8))
    boxes = np.array([[30, 12, 95, 80], [40, 20, 80, 60]], np.float32)
    index = np.zeros(2, int)
    for aligned in (False, True):
        whole = mask_targets(full, WHOLE[None], boxes, index, 14, aligned)
        part = mask_targets(crop, frame, boxes, index, 14, aligned)
        # Interpolation between pixels and between half pixels differs only along edges.
        assert np.abs(whole - part).mean() < 0.01
        assert np.abs(whole - part).max() < 0.25


def test_a_mask_is_0_outside_its_frame():
    mask = np.full((1, 20, 20), 255, np.uint8)
    frame = np.array([[20, 20, 40, 40]], np.float32)
    box = np.array([[0, 0, 80, 80]], np.float32)
    target = np.asarray(mask_targets(mask, frame, box, np.zeros(1, int), 8, aligned=True))[0]
    expected = np.zeros((8, 8))
    expected[2:4, 2:4] = 1
    np.testing.assert_allclose(target, expected, atol=1e-6)


def test_flips_commute():
    mask = np.random.default_rng(2).integers(0, 256, (1, 16, 16)).astype(np.uint8)
    frame = np.array([[10, 10, 42, 50]], np.float32)
    box = np.array([[6, 14, 44, 52]], np.float32)
    mirror = lambda b: np.stack([100 - b[:, 2], b[:, 1], 100 - b[:, 0], b[:, 3]], 1)  # noqa: E731
    index = np.zeros(1, int)
    straight = mask_targets(mask, frame, box, index, 10, True)
    turned = mask_targets(mask[:, :, ::-1], mirror(frame), mirror(box), index, 10, True)
    np.testing.assert_allclose(turned[:, :, ::-1], straight, atol=1e-4)


def test_fault_3_degenerate_and_padded_rows_change_nothing():
    masks = blobs(2)
    fill = np.array([np.nan, np.inf, 1e30, 0], np.float32)[:, None]
    boxes = np.concatenate([BOXES, np.broadcast_to(fill, (4, 4))])
    frames = np.concatenate([WHOLE[None], np.zeros((1, 4), np.float32)])
    index = np.append(np.zeros(len(BOXES), int), [0, 0, 0, 1])
    padded = mask_targets(masks, frames, boxes, index, 7, False)
    np.testing.assert_array_equal(
        padded[: len(BOXES)], mask_targets(masks, frames, BOXES, index[: len(BOXES)], 7, False)
    )
    chex.assert_tree_all_finite(padded)


def test_vmap_over_images():
    masks, frames = jnp.asarray(blobs(2)), jnp.tile(WHOLE, (2, 1))
    both = [jnp.stack([a, a[::-1]]) for a in (masks, frames)]
    index = jnp.array([[0, 1, 0, 1, 0], [1, 0, 1, 0, 1]])
    boxes = jnp.stack([BOXES, BOXES])
    targets = jax.vmap(lambda *args: mask_targets(*args, side=7, aligned=False))(
        *both, boxes, index
    )
    np.testing.assert_allclose(targets[0], targets[1], atol=1e-6)
