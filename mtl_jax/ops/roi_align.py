"""ROIAlign over a feature pyramid.

Sources: He et al., Mask R-CNN, 2017; Lin et al., Feature Pyramid Networks, 2016, equation 1.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Bool, Float, Int

from mtl_jax.ops.boxes import area
from mtl_jax.types import Array

ROUNDING = 1e-3  # cells; how far beyond the border a sample of `multilevel_crop` may lie


def roi_levels(
    boxes: Float[Array, "R 4"],
    min_level: int = 2,
    max_level: int = 5,
    canonical_size: float | Float[Array, ""] = 224.0,
    canonical_level: int = 4,
    nearest: bool = False,
) -> Int[Array, "R"]:
    """Return each box's pyramid level by its size, the square root of its area in pixels.

    Levels are indices into `min_level` .. `max_level`; 0 is the finest. A box of `canonical_size`
    is assigned to `canonical_level`, and each halving of the size to the next finer level. Sizes in
    between are assigned to the finer level, or with `nearest` to the nearest level by ratio.
    """
    # A box without area is assigned to the finest level; the minimum avoids log(0).
    size = jnp.sqrt(jnp.maximum(area(boxes), 1e-12))
    steps = jnp.log2(size / canonical_size)
    if nearest:
        level = canonical_level + jnp.round(steps)
    else:
        level = jnp.floor(canonical_level + steps + 1e-6)
    level = jnp.clip(jnp.nan_to_num(level, nan=min_level), min_level, max_level)
    return level.astype(jnp.int32) - min_level


class _Taps(NamedTuple):
    """The T cells that each bin reads along one axis, two per sample, and their weights."""

    index: Int[Array, "R s T"]
    weight: Float[Array, "R s T"]


class _Reads(NamedTuple):
    """The cells that each box reads: its level, and its rows and columns on that level."""

    level: Int[Array, "R"]
    y: _Taps
    x: _Taps


def multilevel_roi_align(
    features: Sequence[Float[Array, "_ _ C"]],
    boxes: Float[Array, "R 4"],
    levels: Int[Array, "R"],
    strides: Sequence[int],
    output_size: int,
    sampling_ratio: int = 2,
    aligned: bool = False,
    cells: Int[Array, "L 2"] | None = None,
) -> Float[Array, "R s s C"]:
    """Average `sampling_ratio`² bilinear samples in each of s x s bins of each box.

    `boxes` are in pixels; `levels` index `features` (finest first), whose cells are `strides`
    pixels apart. With `aligned`, a cell's value is at its centre, which is exact. Without, as in
    torchvision's Mask R-CNN, it is at its top left corner, and a box is at least one cell wide and
    high. Samples more than one cell outside are 0. `cells` are the numbers of valid rows and
    columns of each level (default: all). Sums are float32; the result has the dtype of `features`.
    Boxes receive no gradient.
    """
    sizes = _sizes(features, cells)[levels]
    scale = jnp.array([1 / stride for stride in strides], jnp.float32)[levels]
    boxes = lax.stop_gradient(boxes).astype(jnp.float32) * scale[:, None]
    place = partial(_place, output_size=output_size, sampling_ratio=sampling_ratio, aligned=aligned)
    y = place(boxes[:, 1], boxes[:, 3], sizes[:, 0])
    x = place(boxes[:, 0], boxes[:, 2], sizes[:, 1])
    return _pool(tuple(features), _Reads(levels, y, x))


def multilevel_crop(
    features: Sequence[Float[Array, "_ _ C"]],
    boxes: Float[Array, "R 4"],
    levels: Int[Array, "R"],
    extent: Float[Array, "2"] | Int[Array, "2"],
    output_size: int,
    cells: Int[Array, "L 2"] | None = None,
) -> Float[Array, "R s s C"]:
    """Take s x s bilinear samples of each box, the outermost ones on its edges.

    This is `tf.image.crop_and_resize` on each box's level: the first cell's value is at (0, 0), the
    last one's at `extent`, (height, width) in the pixels of `boxes`. Samples outside are 0, except
    those that are outside only by rounding: TensorFlow loses the last row of some boxes that end on
    the border. Otherwise as `multilevel_roi_align`.
    """
    sizes = _sizes(features, cells)[levels]
    scale = (sizes - 1).astype(jnp.float32) / jnp.asarray(extent, jnp.float32)
    boxes = lax.stop_gradient(boxes).astype(jnp.float32) * jnp.tile(scale[:, ::-1], 2)
    y = _place_corners(boxes[:, 1], boxes[:, 3], sizes[:, 0], output_size)
    x = _place_corners(boxes[:, 0], boxes[:, 2], sizes[:, 1], output_size)
    return _pool(tuple(features), _Reads(levels, y, x))


def _sizes(
    features: Sequence[Float[Array, "_ _ C"]], cells: Int[Array, "L 2"] | None
) -> Int[Array, "L 2"]:
    if cells is not None:
        return cells
    return jnp.array([level.shape[:2] for level in features], jnp.int32)


def _place_corners(
    start: Float[Array, "R"], end: Float[Array, "R"], size: Int[Array, "R"], output_size: int
) -> _Taps:
    """Place one sample per bin along one axis of `size` cells, from `start` to `end` inclusive; a
    single sample is placed midway.
    """
    fractions = np.linspace(0, 1, output_size) if output_size > 1 else np.full(1, 0.5)
    at = start[:, None] + (end - start)[:, None] * fractions.astype(np.float32)
    last = (size[:, None] - 1).astype(jnp.float32)
    inside = (at >= -ROUNDING) & (at <= last + ROUNDING)
    return _between(jnp.clip(jnp.where(inside, at, 0), 0, last), inside, last)


def _between(
    at: Float[Array, "R n"], inside: Bool[Array, "R n"], last: Float[Array, "R 1"]
) -> _Taps:
    """Return the two cells around each sample; the second is at most `last`, the last cell."""
    low = jnp.floor(at)
    share = jnp.stack([1 - (at - low), at - low], -1)
    weight = jnp.where(inside[..., None], share, 0)
    index = jnp.stack([low, jnp.minimum(low + 1, last)], -1).astype(jnp.int32)
    return _Taps(index, weight)


def _place(
    start: Float[Array, "R"],
    end: Float[Array, "R"],
    size: Int[Array, "R"],
    output_size: int,
    sampling_ratio: int,
    aligned: bool,
) -> _Taps:
    """Place the samples along one axis of `size` cells; `start` and `end` are in cells."""
    length = end - start if aligned else jnp.maximum(end - start, 1)
    if aligned:
        start = start - 0.5
    count = output_size * sampling_ratio
    fractions = (np.arange(count, dtype=np.float32) + 0.5) / count
    at = start[:, None] + length[:, None] * fractions
    limit = size[:, None].astype(jnp.float32)
    inside = (at >= -1) & (at <= limit)
    at = jnp.clip(jnp.where(inside, at, 0), 0, limit - 1)
    taps = _between(at, inside, limit - 1)
    shape = (len(start), output_size, 2 * sampling_ratio)
    return _Taps(taps.index.reshape(shape), (taps.weight / sampling_ratio).reshape(shape))


@jax.custom_vjp
def _pool(features: tuple[Array, ...], reads: _Reads) -> Float[Array, "R s s C"]:
    """Sum each bin's weighted cells.

    There is one gather per pair of taps: XLA fuses them with the sum into one loop over the output,
    which stores no intermediate result.
    """
    flat = jnp.concatenate([level.reshape(-1, level.shape[-1]) for level in features])
    rows, columns = _flat_rows([level.shape for level in features], reads), reads.x.index
    pooled = jnp.float32(0)
    for i, j in np.ndindex(rows.shape[-1], columns.shape[-1]):
        weight = reads.y.weight[:, :, None, i] * reads.x.weight[:, None, :, j]
        cells = flat[rows[:, :, None, i] + columns[:, None, :, j]]
        pooled += cells.astype(jnp.float32) * weight[..., None]
    return pooled.astype(flat.dtype)


def _flat_rows(shapes: Sequence[Sequence[int]], reads: _Reads) -> Int[Array, "R s T"]:
    """Return the index of the first cell of each row that is read, with all levels concatenated."""
    cells = [shape[0] * shape[1] for shape in shapes]
    starts = jnp.array(np.cumsum([0, *cells[:-1]]), jnp.int32)[reads.level]
    widths = jnp.array([shape[1] for shape in shapes], jnp.int32)[reads.level]
    return starts[:, None, None] + reads.y.index * widths[:, None, None]


def _pool_forward(features: tuple[Array, ...], reads: _Reads) -> tuple[Array, Any]:
    # Empty slices pass the levels' sizes and dtype to the backward pass, which reads no features.
    return _pool(features, reads), ([level[..., :0] for level in features], reads)


def _pool_backward(saved: Any, g: Float[Array, "R s s C"]) -> tuple[Any, None]:
    like, reads = saved
    shapes = [(*level.shape[:2], g.shape[-1]) for level in like]
    gradients = lax.platform_dependent(
        g.astype(jnp.float32),
        reads,
        cpu=partial(scatter, shapes),
        default=partial(spread, shapes),
    )
    return tuple(x.astype(level.dtype) for x, level in zip(gradients, like, strict=True)), None


_pool.defvjp(_pool_forward, _pool_backward)


# Boxes per chunk: on CPU few enough that their sums stay in the cache, on GPU to bound memory.
SCATTERED, SPREAD = 8, 64


def _chunks(g: Array, reads: _Reads, size: int) -> tuple[Array, _Reads]:
    """Split the boxes into chunks of `size`; the last is padded with boxes whose gradient is 0."""
    fill = -len(g) % size

    def cut(x: Array) -> Array:
        return jnp.pad(x, ((0, fill), *((0, 0),) * (x.ndim - 1))).reshape(-1, size, *x.shape[1:])

    return jax.tree.map(cut, (g, reads))


def scatter(
    shapes: Sequence[tuple[int, int, int]], g: Float[Array, "R s s C"], reads: _Reads
) -> list[Float[Array, "_ _ C"]]:
    """Add each bin's gradient to the cells that it read, one by one; fastest on CPU."""
    ends = np.cumsum([height * width for height, width, _ in shapes])

    def add(flat: Array, chunk: tuple[Array, _Reads]) -> tuple[Array, None]:
        g, reads = chunk
        rows, columns = _flat_rows(shapes, reads), reads.x.index[:, None]
        for i in range(rows.shape[-1]):
            weight = reads.y.weight[:, :, None, None, i] * reads.x.weight[:, None]
            cells = rows[:, :, None, None, i] + columns
            flat = flat.at[cells].add(g[:, :, :, None] * weight[..., None])
        return flat, None

    flat = jnp.zeros((int(ends[-1]), g.shape[-1]), jnp.float32)
    flat, _ = lax.scan(add, flat, _chunks(g, reads, SCATTERED))
    return [
        part.reshape(shape) for part, shape in zip(jnp.split(flat, ends[:-1]), shapes, strict=True)
    ]


def spread(
    shapes: Sequence[tuple[int, int, int]], g: Float[Array, "R s s C"], reads: _Reads
) -> list[Float[Array, "_ _ C"]]:
    """Compute `scatter` by matrix products over all rows and columns of each level.

    On GPU contended float32 scatter-adds are about a hundred times slower (openxla/xla#46225), and
    many boxes overlap.
    """

    def add(total: list[Array], chunk: tuple[Array, _Reads]) -> tuple[list[Array], None]:
        g, reads = chunk
        new = []
        for level, (height, width, _) in enumerate(shapes):
            here = (reads.level == level).astype(jnp.float32)[:, None, None]
            across = jnp.einsum("rqw,rpqc->rpwc", _dense(reads.x, width), g)
            new.append(jnp.einsum("rph,rpwc->hwc", _dense(reads.y, height) * here, across))
        return [old + part for old, part in zip(total, new, strict=True)], None

    none = [jnp.zeros(shape, jnp.float32) for shape in shapes]
    return lax.scan(add, none, _chunks(g, reads, SPREAD))[0]


def _dense(taps: _Taps, size: int) -> Float[Array, "R s size"]:
    """Return the weights of each bin as a row over all `size` cells of the axis."""
    hit = taps.index[..., None] == jnp.arange(size)
    return jnp.sum(jnp.where(hit, taps.weight[..., None], 0), axis=-2)
