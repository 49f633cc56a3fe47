"""Head of landmarks by heatmaps: one map of logits per point, with its peak at the point.

Source: He et al., Mask R-CNN, 2017, section 5; layers, targets and decoding as in torchvision's
`keypointrcnn_resnet50_fpn`. The cross entropy over cells determines a map except for a constant.
The constant is trained so that the sigmoid of the peak is the probability that the point is
visible.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Bool, Float, Int

from mtl_jax import losses
from mtl_jax.layers.conv import Conv
from mtl_jax.models.attribute_heads.landmarks import LandmarksHead, relative_places
from mtl_jax.ops.static_sizes import run_smallest
from mtl_jax.types import Array, Term

CONVS, CHANNELS = 8, 512
CUBIC = -0.75  # the coefficient of PyTorch's bicubic interpolation
# Before the search for peaks, maps are resampled to the smallest of these sizes, in pixels, that is
# at least the size of the box; to the last one for larger boxes.
SIDES = (56, 112, 224, 448, 896, 1792)


class HeatmapLayers(nn.Module):
    """3x3 convolutions, a transposed 4x4 convolution of stride 2, bilinear upsampling by 2."""

    points: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "R s s C"], valid: Bool[Array, "R"]
    ) -> Float[Array, "R J 4*s 4*s"]:
        """Compute the logits of each point, in float32."""
        for i in range(CONVS):
            x = nn.relu(Conv(CHANNELS, dtype=self.dtype, name=f"conv{i + 1}")(x))
        init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        deconv = nn.ConvTranspose(
            self.points, (4, 4), (2, 2), dtype=self.dtype, kernel_init=init, name="deconv"
        )
        x = deconv(x).astype(jnp.float32)
        rows, height, width, points = x.shape
        x = jax.image.resize(x, (rows, 2 * height, 2 * width, points), "bilinear")
        return x.transpose(0, 3, 1, 2)


class HeatmapHead(LandmarksHead):
    """Outputs are logits `[R, J, h, w]` on the cells of each region's box."""

    def make_layers(self, dtype: DTypeLike) -> nn.Module:
        return HeatmapLayers(len(self.attribute.points), dtype)

    def sums(
        self,
        outputs: Float[Array, "R J h w"],
        values: Float[Array, "R V"],
        known: Bool[Array, "R V"],
        boxes: Float[Array, "R 4"],
    ) -> Term:
        rows, points, height, width = outputs.shape
        truth, is_known = (x.reshape(rows, points, 3) for x in (values, known))
        column, row, inside = _cells(truth[..., :2], boxes, height, width)
        place = losses.cross_entropy(outputs.reshape(rows, points, -1), row * width + column)
        visible = losses.binary_cross_entropy(outputs.max((2, 3)), truth[..., 2])
        return (
            losses.masked_sum(place, is_known[..., :2].all(-1) & inside),
            losses.masked_sum(visible, is_known[..., 2]),
        )

    def decode(
        self, outputs: Float[Array, "R J h w"], boxes: Float[Array, "R 4"]
    ) -> Float[Array, "R E"]:
        """Return the position of each map's peak, to one pixel of the box, and its probability."""
        found = jax.lax.map(_peaks, (outputs, boxes))
        places = relative_places(found[..., :2], boxes)
        points = jnp.concatenate([places, jax.nn.sigmoid(found[..., 2:])], -1)
        return points.reshape(len(boxes), -1)


def _cells(
    places: Float[Array, "R J 2"], boxes: Float[Array, "R 4"], height: int, width: int
) -> tuple[Int[Array, "R J"], Int[Array, "R J"], Bool[Array, "R J"]]:
    """Return the column and row of the cell of each place, and whether the place is in the box."""
    start, end = boxes[:, None, :2], boxes[:, None, 2:]
    shape = np.array([width, height])
    cell = jnp.floor((places - start) * shape / jnp.maximum(end - start, 1e-6)).astype(jnp.int32)
    cell = jnp.where(places == end, shape - 1, cell)
    inside = ((cell >= 0) & (cell < shape)).all(-1)
    cell = jnp.clip(cell, 0, shape - 1)
    return cell[..., 0], cell[..., 1], inside


def _peaks(region: tuple[Float[Array, "J h w"], Float[Array, "4"]]) -> Float[Array, "J 3"]:
    """Return x, y in pixels and the logit of the peak of each map of one region.

    The maps are resampled by bicubic interpolation to one cell per pixel of the box.
    """
    maps, box = region
    sides = jnp.maximum(box[2:] - box[:2], 1.0)  # width, height
    counts = jnp.minimum(jnp.ceil(sides), SIDES[-1])

    def find(side: int) -> Float[Array, "J 3"]:
        across = _cubic_weights(side, counts[0], maps.shape[2])
        down = _cubic_weights(side, counts[1], maps.shape[1])
        resized = jnp.einsum("jhw,yh,xw->jyx", maps, down, across, precision="highest")
        pixels = jnp.arange(side)
        inside = (pixels[:, None] < counts[1]) & (pixels < counts[0])
        flat = jnp.where(inside, resized, -jnp.inf).reshape(len(maps), -1)
        best = jnp.argmax(flat, 1)
        cells = jnp.stack([best % side, best // side], -1) + 0.5
        return jnp.concatenate([cells * sides / counts + box[:2], flat.max(1)[:, None]], -1)

    return run_smallest(counts.max().astype(jnp.int32), SIDES, find)


def _cubic_weights(side: int, count: Float[Array, ""], size: int) -> Float[Array, "n size"]:
    """Return the weights of `size` cells in `side` resampled ones; the first `count` are used."""
    at = (jnp.arange(side) + 0.5) * (size / count) - 0.5
    below = jnp.floor(at)
    t = at - below
    weights: Sequence[Array] = (
        _cubic_far(t + 1),
        _cubic_near(t),
        _cubic_near(1 - t),
        _cubic_far(2 - t),
    )
    taps = [jnp.clip(below + i, 0, size - 1) for i in (-1, 0, 1, 2)]
    hits = (tap[:, None] == jnp.arange(size) for tap in taps)
    return sum((w[:, None] * hit for w, hit in zip(weights, hits, strict=True)), jnp.float32(0))


def _cubic_near(t: Array) -> Array:
    """Evaluate the cubic convolution kernel at distances up to 1."""
    return ((CUBIC + 2) * t - (CUBIC + 3)) * t * t + 1


def _cubic_far(t: Array) -> Array:
    """Evaluate the cubic convolution kernel at distances from 1 to 2."""
    return ((CUBIC * t - 5 * CUBIC) * t + 8 * CUBIC) * t - 4 * CUBIC
