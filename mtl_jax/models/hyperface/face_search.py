"""Face detection in an image: Iterative Region Proposals, then Landmarks-based NMS.

Source: Ranjan et al., HyperFace, 2016 (https://arxiv.org/abs/1603.01249), algorithms 1 and 2.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from mtl_jax.attributes.base import Attribute
from mtl_jax.attributes.landmarks import Landmarks
from mtl_jax.config.options.hyperface import HyperFaceOptions
from mtl_jax.models.attribute_heads.heads import head_of
from mtl_jax.models.hyperface.face_rectangle import FaceRectangle
from mtl_jax.models.hyperface.losses import CLASS, attribute_outputs, placed_points
from mtl_jax.ops import boxes as box_ops
from mtl_jax.ops.landmark_nms import group_regions, precise_boxes
from mtl_jax.ops.roi_align import multilevel_roi_align
from mtl_jax.ops.windows import sliding_windows
from mtl_jax.types import Array, Detections, Proposals

# (regions [R, s, s, C], valid [R]) -> outputs by the names of `losses.output_sizes`
RunNetwork = Callable[
    [Float[Array, "R s s C"], Bool[Array, "R"]], Mapping[str, Float[Array, "R _"]]
]
MIN_SIDE = 4.0  # minimum width and height of a region, in pixels


class Regions(NamedTuple):
    """Regions of one image and the network's predictions, in pixels of the padded image."""

    boxes: Float[Array, "R 4"]
    valid: Bool[Array, "R"]
    scores: Float[Array, "R"]
    classes: Int[Array, "R"]
    attributes: Mapping[str, Float[Array, "R E"]]


class Search(NamedTuple):
    """Detection in one normalised padded image; the image itself has `size` (height, width)."""

    run_network: RunNetwork
    attributes: tuple[Attribute, ...]
    points: Landmarks | None  # that determine a face's rectangle
    options: HyperFaceOptions
    rectangle: FaceRectangle | None  # None without `points`
    image: Float[Array, "H W C"]
    size: Float[Array, "2"]
    proposals: Proposals | None = None  # None: windows

    def run(self) -> Detections:
        """Detect the faces of the image."""
        o = self.options.detection
        if not o.enabled:
            whole = jnp.stack([jnp.zeros(2), self.size[::-1]]).reshape(1, 4)
            return _as_detections(self.see(whole, jnp.ones(1, bool)))
        first = self.windows() if self.proposals is None else self._usable(self.proposals)
        found = [self._best(self.see(*first))]
        if self.points is not None:
            for _ in range(o.rounds):
                again = self.see(*self.rectangles(found[-1]))
                found.append(again._replace(valid=again.valid & (again.scores > o.score_threshold)))
        together = jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)
        return _as_detections(self._faces(together))

    def windows(self) -> tuple[Float[Array, "P 4"], Bool[Array, "P"]]:
        """Return sliding windows, clipped to the image, and which are valid.

        At least half of a valid window is inside the image. The smallest windows may be larger than
        a narrow image: for them, half of the square of its shorter side is sufficient.
        """
        w, (height, width, _) = self.options.windows, self.image.shape
        whole = jnp.asarray(sliding_windows(height, width, w.min_side, w.growth, w.step))
        cut = box_ops.clip(whole, self.size[0], self.size[1])
        areas = box_ops.area(whole)
        fitting = jnp.minimum(areas, self.size.min() ** 2)
        required = jnp.where(areas > 1.01 * areas.min(), areas, fitting)
        return cut, box_ops.area(cut) >= 0.5 * required

    def _usable(self, proposals: Proposals) -> tuple[Float[Array, "P 4"], Bool[Array, "P"]]:
        """Return proposals, clipped to the image, and which of them are large enough."""
        boxes = jnp.where(proposals.valid[:, None], proposals.boxes, 0.0)
        boxes = box_ops.clip(boxes, self.size[0], self.size[1])
        return boxes, proposals.valid & box_ops.is_larger(boxes, MIN_SIDE)

    def see(self, boxes: Float[Array, "R 4"], valid: Bool[Array, "R"]) -> Regions:
        """Run the network on regions in chunks; chunks without valid regions are skipped."""
        o = self.options
        count = len(boxes)
        chunk = min(o.detection.chunk, count)
        padding = -count % chunk
        boxes_in_chunks = jnp.pad(boxes, ((0, padding), (0, 0))).reshape(-1, chunk, 4)
        valid_in_chunks = jnp.pad(valid, (0, padding)).reshape(-1, chunk)

        # Pixels outside the image are not sampled.
        cells = jnp.ceil(self.size[None]).astype(jnp.int32)

        def run(part: tuple[Array, Array]) -> Regions:
            level = jnp.zeros(chunk, jnp.int32)
            regions = multilevel_roi_align(
                [self.image], part[0], level, (1,), o.input_size, aligned=True, cells=cells
            )
            return self._read(self.run_network(regions, part[1]), *part)

        chunks = boxes_in_chunks, valid_in_chunks
        shapes = jax.eval_shape(run, jax.tree.map(lambda x: x[0], chunks))

        def run_or_skip(part: tuple[Array, Array]) -> Regions:
            nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
            return jax.lax.cond(part[1].any(), run, lambda _: nothing, part)

        found = jax.lax.map(run_or_skip, chunks)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], found)

    def _read(self, outputs: Mapping[str, Array], boxes: Array, valid: Array) -> Regions:
        if CLASS in outputs:
            scores = jax.nn.softmax(outputs[CLASS])[:, 1:]
        else:
            scores = jnp.ones((len(boxes), 1))
        predictions = {
            a.name: head_of(a).place(head_of(a).decode(attribute_outputs(a, outputs), boxes), boxes)
            for a in self.attributes
        }
        best = jnp.argmax(scores, -1).astype(jnp.int32)
        return Regions(boxes, valid, scores.max(-1), best + 1, predictions)

    def _best(self, regions: Regions) -> Regions:
        """Keep the highest-scoring regions above the threshold."""
        o = self.options.detection
        usable = regions.valid & (regions.scores > o.score_threshold)
        count = min(o.max_candidates, len(regions.scores))
        _, index = jax.lax.top_k(jnp.where(usable, regions.scores, -1.0), count)
        return jax.tree.map(lambda x: x[index], regions._replace(valid=usable))

    def rectangles(self, regions: Regions) -> tuple[Float[Array, "R 4"], Bool[Array, "R"]]:
        """Return face rectangles from landmarks, clipped to the image, and which are valid."""
        assert self.rectangle is not None
        o, points = self.options, self._landmarks(regions)
        template = jnp.asarray(o.template, jnp.float32)
        counts = placed_points(points, o.hidden_points)
        boxes = self.rectangle.place(template, points[..., :2], counts)
        boxes = box_ops.clip(boxes, self.size[0], self.size[1])
        enough = counts.sum(1) >= o.detection.min_visible
        return boxes, regions.valid & enough & box_ops.is_larger(boxes, MIN_SIDE)

    def _landmarks(self, regions: Regions) -> Float[Array, "R J 3"]:
        assert self.points is not None
        return regions.attributes[self.points.name].reshape(len(regions.boxes), -1, 3)

    def _faces(self, regions: Regions) -> Regions:
        """Group regions to faces; each face is the median of its highest-scoring regions."""
        o, hidden = self.options.detection, self.options.hidden_points
        boxes, valid, overlap, top_k = regions.boxes, regions.valid, o.nms_iou, 1
        by_landmarks = self.points is not None and o.landmark_nms
        if by_landmarks:
            points = self._landmarks(regions)
            boxes, placed = precise_boxes(points[..., :2], placed_points(points, hidden))
            valid &= placed  # without landmarks, a region cannot be assigned to a face
            overlap, top_k = o.overlap, o.top_k
        grouped = group_regions(boxes, regions.scores, valid, overlap, top_k, o.max_detections)
        best = grouped.members[:, 0]
        faces = Regions(
            regions.boxes[best],
            grouped.valid,
            regions.scores[best],
            regions.classes[best],
            {
                a.name: head_of(a).middle(
                    regions.attributes[a.name][grouped.members], grouped.member_valid
                )
                for a in self.attributes
            },
        )
        if not by_landmarks:
            return faces
        rectangles, placed = self.rectangles(faces)
        return faces._replace(boxes=jnp.where(placed[:, None], rectangles, faces.boxes))


def _as_detections(regions: Regions) -> Detections:
    valid = regions.valid
    return Detections(
        jnp.where(valid[:, None], regions.boxes, 0.0),
        jnp.where(valid, regions.scores, 0.0),
        jnp.where(valid, regions.classes, 0),
        valid,
        None,
        dict(regions.attributes),
    )
