"""A page on how a model processes one image: detections, proposals, regions, masks, activations,
weights and the architecture.
"""

from pathlib import Path

import jax
import numpy as np
from matplotlib.axes import Axes

from mtl_jax.ops import boxes as box_ops
from mtl_jax.ops.nms import nms
from mtl_jax.visualize.drawing import plots
from mtl_jax.visualize.drawing.draw import draw
from mtl_jax.visualize.drawing.palette import GRAY, GREEN, class_color
from mtl_jax.visualize.drawing.sheets import sheet
from mtl_jax.visualize.drawing.styles import splash
from mtl_jax.visualize.model_page.architecture import architecture_svg, layers
from mtl_jax.visualize.model_page.inspection import Inspection
from mtl_jax.visualize.model_page.weights import array_numbers, dead_channels
from mtl_jax.visualize.page import Page
from mtl_jax.visualize.training_targets import anchor_examples, region_examples

TOP_ANCHORS, TOP_PROPOSALS, REGIONS, REFINED = 100, 50, 200, 5
CHANNELS = 4  # shown of each layer
MOST_MASKS = 12


def write_model_page(title: str, inspection: Inspection, folder: Path) -> Path:
    """Write the page and its images, and return its path."""
    page = Page(title)
    _add_detections(page, inspection)
    _add_proposals(page, inspection)
    _add_regions(page, inspection)
    _add_masks(page, inspection)
    _add_activations(page, inspection)
    _add_weights(page, inspection)
    _add_architecture(page, inspection)
    return page.write(folder)


def _add_detections(page: Page, inspection: Inspection) -> None:
    page.heading("Detections")
    image, result = inspection.result.image, inspection.result
    assert image is not None  # `Inspection.result` keeps it
    page.image("detections", draw(image, result), "Detections with a score of at least 0.5")
    page.image("splash", splash(image, result), "Detections in colour on a gray image")
    rows = [
        (result.class_names[i], float(result.scores[i]), *map(float, result.boxes[i].round(1)))
        for i in range(len(result))
    ]
    page.table(("class", "score", "x1", "y1", "x2", "y2"), rows)
    if inspection.known and len(result) and len(inspection.record.instances):
        _add_overlaps(page, inspection)


def _add_overlaps(page: Page, inspection: Inspection) -> None:
    truth = np.array([instance.box for instance in inspection.record.instances], np.float32)
    classes = [inspection.names[instance.label] for instance in inspection.record.instances]
    overlaps = np.asarray(box_ops.iou(inspection.result.boxes, truth))
    names = [
        f"{name} {score:.2f}"
        for name, score in zip(inspection.result.class_names, inspection.result.scores, strict=True)
    ]
    texts = [
        [_overlap_text(v, inspection.result.class_names[i], classes[j]) for j, v in enumerate(row)]
        for i, row in enumerate(overlaps.tolist())
    ]
    image = plots.matrix(overlaps, texts, names, classes, "ground truth", "detections")
    caption = "IoU of detections and ground truth; ok: IoU of at least 0.5 and the same class"
    page.image("overlaps", image, caption)


def _overlap_text(overlap: float, found: str, annotated: str) -> str:
    if overlap <= 0.01:
        return ""
    return f"{overlap:.2f}" + (" ok" if overlap >= 0.5 and found == annotated else "")


def _add_proposals(page: Page, inspection: Inspection) -> None:
    page.heading("Proposals")
    steps, rpn = inspection.inside.steps, inspection.options.rpn
    anchors = np.asarray(steps.anchors.boxes)
    if inspection.known:
        found = anchor_examples(inspection.row, inspection.options, inspection.seed)
        image = inspection.draw(found.boxes[found.sampled_positive], GRAY, dotted=True)
        for box in found.refined:
            inspection.add_box(image, box, GREEN, 2)
        caption = "Positive anchors (dotted) and their target boxes (solid)"
        page.image("rpn_targets", image, caption)
    scores = np.where(steps.anchors.valid, steps.rpn_logits, -np.inf)
    order = np.argsort(-scores, kind="stable")
    top = order[:TOP_ANCHORS]
    page.image(
        "top_anchors", inspection.draw(anchors[top]), f"The {len(top)} highest-scoring anchors"
    )
    best = order[: rpn.pre_nms]
    refined = inspection.decode(steps.rpn_deltas[best], anchors[best], rpn.box_weights)
    clipped = inspection.clip(refined)
    few = slice(TOP_PROPOSALS)
    sides = [inspection.draw(anchors[best[few]], GRAY, True), inspection.draw(refined[few])]
    page.image(
        "anchors_refined",
        sheet(sides, 2, ("before", "after"), (480, 560)),
        "The 50 highest-scoring anchors before and after refinement",
    )
    page.image("anchors_clipped", inspection.draw(clipped[few]), "The same, clipped to the image")
    kept, valid = nms(clipped, scores[best], np.isfinite(scores[best]), rpn.nms_iou, TOP_PROPOSALS)
    after_nms = clipped[np.asarray(kept)[np.asarray(valid)]]
    caption = f"The 50 highest-scoring refined anchors after NMS at IoU {rpn.nms_iou}"
    page.image("anchors_nms", inspection.draw(after_nms), caption)
    proposals = np.asarray(steps.proposals.boxes)[np.asarray(steps.proposals.valid)]
    page.image("proposals", inspection.draw(proposals[few]), "The 50 highest-scoring proposals")
    if inspection.known:
        truth = inspection.row.gt.boxes[inspection.row.gt.valid]
        stages = {"anchors": anchors, "refined": refined, "proposals": proposals}
        rows = [(name, len(boxes), *_recall(truth, boxes)) for name, boxes in stages.items()]
        page.text("Recall of the annotated boxes at IoU 0.5 and 0.7:")
        page.table(("stage", "boxes", "recall at 0.5", "recall at 0.7"), rows)
    cells = [
        (name, _histogram(np.asarray(steps.rpn_deltas)[best, i]))
        for i, name in enumerate(("dx", "dy", "dw", "dh"))
    ]
    page.image(
        "rpn_histograms",
        plots.plots(cells, 4, (3.0, 2.4)),
        "Predicted refinements of the highest-scoring anchors",
    )
    page.image("proposal_corners", plots.plot(_corners(proposals)), "Corners of the proposals")


def _recall(truth: np.ndarray, boxes: np.ndarray) -> tuple[float, float]:
    if not len(truth) or not len(boxes):
        return float("nan"), float("nan")
    best = np.asarray(box_ops.iou(truth, boxes)).max(1)
    return float((best >= 0.5).mean()), float((best >= 0.7).mean())


def _histogram(values: np.ndarray):
    def draw_on(axes: Axes) -> None:
        axes.hist(np.asarray(values, float).ravel(), bins=40, color=plots.BLUE)

    return draw_on


def _corners(boxes: np.ndarray):
    def draw_on(axes: Axes) -> None:
        axes.scatter(boxes[:, 0], boxes[:, 1], s=6, color=plots.BLUE, label="top left")
        axes.scatter(boxes[:, 2], boxes[:, 3], s=6, color=plots.ORANGE, label="bottom right")
        axes.invert_yaxis()
        axes.legend(fontsize=8)

    return draw_on


def _add_regions(page: Page, inspection: Inspection) -> None:
    page.heading("From regions to detections")
    steps, options = inspection.inside.steps, inspection.options
    usable = np.flatnonzero(np.asarray(steps.proposals.valid))
    boxes = np.asarray(steps.proposals.boxes)[usable]
    scores = np.asarray(jax.nn.softmax(steps.class_logits))[usable]
    classes = scores.argmax(1)
    deltas = np.asarray(steps.box_deltas)[usable, classes]
    refined = inspection.clip(inspection.decode(deltas, boxes, options.box_head.box_weights))
    colors = [class_color(inspection.names[c]) if c else GRAY for c in classes]
    order = np.random.default_rng(inspection.seed).permutation(len(boxes))[:REGIONS]
    image = inspection.enlarged()
    for i in order:
        inspection.add_box(image, boxes[i], colors[i], 1, dotted=not classes[i])
    page.image("rois", image, f"{len(order)} regions before refinement (dotted gray: background)")
    found = np.flatnonzero(classes)
    best = found[np.argsort(-scores[found, classes[found]])]
    image = inspection.enlarged()
    for i in best[:REFINED]:
        inspection.add_box(image, boxes[i], GRAY, 1, dotted=True)
        inspection.add_box(image, refined[i], colors[i], 2)
    caption = "The five highest-scoring foreground regions, before (dotted) and after refinement"
    page.image("rois_refined", image, caption)
    sure = best[scores[best, classes[best]] > options.detection.score_threshold]
    selected = np.asarray(steps.selected.boxes)[np.asarray(steps.selected.valid)]
    selected_classes = np.asarray(steps.selected.classes)[np.asarray(steps.selected.valid)]
    filters = (
        ("filter_background", "classified as foreground", refined[best], [colors[i] for i in best]),
        (
            "filter_score",
            f"with a score above {options.detection.score_threshold}",
            refined[sure],
            [colors[i] for i in sure],
        ),
        (
            "filter_nms",
            f"after per-class NMS at IoU {options.detection.nms_iou} (the detections)",
            selected,
            [class_color(inspection.names[c]) for c in selected_classes],
        ),
    )
    page.table(
        ("regions", "number"), [("proposals", len(boxes)), *((f[1], len(f[2])) for f in filters)]
    )
    for name, text, kept, box_colors in filters:
        page.image(name, inspection.draw(kept, box_colors or GRAY), f"Regions {text}")


def _add_masks(page: Page, inspection: Inspection) -> None:
    page.heading("Masks")
    cells: list[np.ndarray]
    if inspection.known:
        found = region_examples(
            inspection.row, inspection.options, inspection.full_size_masks, inspection.seed
        )
        chosen = np.flatnonzero(found.positive)[:MOST_MASKS]
        cells = [np.rint(255 * found.masks[i]).astype(np.uint8) for i in chosen]
        names = [inspection.names[found.classes[i]] for i in chosen]
        if cells:
            page.image(
                "mask_targets",
                sheet(cells, 6, names, (160, 160)),
                "Mask targets of sampled regions",
            )
    result = inspection.result
    if result.mask_probabilities is None or not len(result):
        page.text("The model predicts no masks, or there are no detections.")
        return
    cells = [np.rint(255 * p).astype(np.uint8) for p in result.mask_probabilities[:MOST_MASKS]]
    names = result.class_names[:MOST_MASKS]
    side = result.mask_probabilities.shape[-1]
    page.image("masks_raw", sheet(cells, 6, names, (160, 160)), f"Predicted masks, {side} x {side}")
    pasted = [255 * result.mask_crop(i)[0].astype(np.uint8) for i in range(len(names))]
    shown = [(p, n) for p, n in zip(pasted, names, strict=True) if p.size]
    page.image(
        "masks_full",
        sheet([p for p, _ in shown], 6, [n for _, n in shown], (160, 160)),
        "The same at the resolution of the image, thresholded at 0.5",
    )


def _add_activations(page: Page, inspection: Inspection) -> None:
    page.heading("Activations")
    page.image("input", inspection.pixels, "The network's input")
    activations = inspection.inside.activations
    chosen = {f"C{n}": f"backbone/stage{n}" for n in range(2, 6)}
    chosen |= {f"P{n}": f"fpn/{n - 2}" for n in range(2, 7)}
    for name, path in chosen.items():
        maps = np.asarray(activations[path][0, :, :, :CHANNELS], np.float32)
        cells = [_as_gray(maps[..., i]) for i in range(maps.shape[-1])]
        captions = [f"channel {i}" for i in range(len(cells))]
        page.image(f"activations_{name}", sheet(cells, 4, captions, (240, 240)), f"{name} ({path})")
    dead = dead_channels(activations)
    if dead:
        page.text("Layers in which more than half of the channels are 0 on the whole image:")
        page.list(f"{name}: {count} of {total} channels" for name, (count, total) in dead.items())
    else:
        page.text("In no layer are more than half of the channels 0 on the whole image.")


def _as_gray(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    return np.rint(255 * (values - low) / max(high - low, 1e-12)).astype(np.uint8)


def _add_weights(page: Page, inspection: Inspection) -> None:
    page.heading("Weights")
    found = array_numbers(inspection.parameters)
    alerts = [f"{numbers.name}: {numbers.alert}" for numbers in found if numbers.alert]
    page.text(
        "Warnings:" if alerts else "No array is very large or non-finite; no kernel is constant."
    )
    page.list(alerts)
    kernels = [n for n in found if n.name.endswith("kernel")]
    largest = sorted(kernels, key=lambda n: -np.prod(n.shape))[:24]
    cells = [(n.name, _histogram(inspection.parameters[n.name])) for n in largest]
    page.image("weights", plots.plots(cells, 3, (4.2, 2.2)), "Histograms of the largest kernels")
    page.table(
        ("array", "shape", "min", "max", "mean", "std", "warning"),
        [
            (n.name, " x ".join(map(str, n.shape)), n.low, n.high, n.mean, n.std, n.alert)
            for n in found
        ],
    )


def _add_architecture(page: Page, inspection: Inspection) -> None:
    page.heading("Architecture")
    activations, arrays = inspection.inside.activations, inspection.parameters
    names = [attribute.name for attribute in inspection.run.attributes]
    svg = architecture_svg(inspection.row.images.shape, activations, arrays, names)
    page.drawing(
        "architecture", svg, "From the input image to the heads, with the shapes for one image"
    )
    total = sum(int(np.size(a)) for a in arrays.values())
    page.text(f"{total:,} parameters.")
    page.table(("layer", "output", "parameters"), layers(activations, arrays))
