"""Compare torchvision overfitted to photographs with our model of the same weights: features,
proposals, detections, losses and gradients.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from convert import our_side
from convert.paired import pair
from real_data import data_set

from mtl_jax.convert import torchvision as convert
from mtl_jax.convert import torchvision_names as names
from mtl_jax.data.loader import pipeline
from mtl_jax.data.readers.annotation_tools.coco import CocoSource
from mtl_jax.data.records import Record
from mtl_jax.evals.accumulate import Evaluator
from mtl_jax.results import Result
from mtl_jax.runs.detection import detect
from mtl_jax.runs.loading import load_run
from mtl_jax.types import Batch, GroundTruth

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
overfitted = pytest.importorskip("convert.overfitted")
torchvision_side = pytest.importorskip("convert.torchvision_side")

pytestmark = pytest.mark.slow
STEPS = {"maskrcnn_resnet50_fpn": 60, "maskrcnn_resnet50_fpn_v2": 60}
SAME_CANVAS = f"--config.data.resize.canvases=({overfitted.CANVAS},)"
CANVASES = {"same": (SAME_CANVAS,), "wider": ()}  # the run's own padded size is square


class Case(NamedTuple):
    arch: str
    source: CocoSource
    state: dict[str, Any]  # torchvision's
    folder: Path  # the run folder of these weights
    expected: list[tuple[Record, dict[str, np.ndarray]]]  # torchvision's detections


@pytest.fixture(scope="module", params=STEPS)
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    source = overfitted.photographs(data_set("coco_mini"), folder / "images.json")
    assert len(source) == overfitted.PHOTOGRAPHS
    learnt = [source[i] for i in range(overfitted.LEARNT)]
    file = overfitted.weight_file(
        request.param,
        [overfitted.read_image(record) for record in learnt],
        [overfitted.target(record) for record in learnt],
        len(source.categories) + 1,
        STEPS[request.param],
    )
    size = overfitted.SIZE
    convert.import_weights(str(file), folder / "run", min_size=size, max_size=size)
    state = torch.load(file, weights_only=True)
    images = [overfitted.read_image(record) for record in source]
    found = torchvision_side.detect(build(request.param, state), images)
    expected = list(zip(source, found, strict=True))
    return Case(request.param, source, state, folder / "run", expected)


def build(arch, state, **options):
    """Build torchvision's model with the weights."""
    return torchvision_side.load(arch, state, (overfitted.SIZE, overfitted.SIZE), **options)


def ours(case, *overrides):
    run = load_run(case.folder, overrides=("--config.eval.batch_size=4", *overrides))
    by_name = {
        record.file_name: result for record, result in detect(run.predict, [case.source], run.setup)
    }
    return run.categories, [by_name[record.file_name] for record in case.source]


def precision(categories, source, results):
    evaluator = Evaluator(categories)
    for record, result in zip(source, results, strict=True):
        evaluator.add(record, result)
    return evaluator.metrics()


@dataclass(frozen=True, eq=False)
class Pasted(Result):
    """Detections with the masks of another library, which have the size of the image."""

    def mask_crop(self, i):
        return self.mask_probabilities[i] >= 0.5, 0, 0


def as_result(record, out):
    size = dict(height=record.height, width=record.width)
    labels = out["labels"]
    found = (out["boxes"], out["scores"], labels, ("",) * len(labels), labels)
    return Pasted(*found, **size, mask_probabilities=out["masks"][:, 0])


@pytest.mark.parametrize("canvas", CANVASES)
def test_detections_on_photographs(case, canvas):
    expected = case.expected
    learnt = expected[: overfitted.LEARNT]
    best = np.array([out["scores"][: len(record.instances)].mean() for record, out in learnt])
    assert np.median(best) > 0.5
    categories, results = ours(case, *CANVASES[canvas])
    wrong_pixels = []
    for (record, out), result in zip(expected, results, strict=True):
        own, other = pair(result, out)
        # Detections with almost equal scores may be in a different order.
        moved = own != np.sort(own)
        scores, expected_scores = result.scores[own], out["scores"][other]
        assert (np.abs(scores - expected_scores)[moved] <= 2e-4).all(), record.file_name
        np.testing.assert_allclose(scores, expected_scores, atol=1e-4)
        wrong_pixels.append((result.masks[own] != (out["masks"][other, 0] >= 0.5)).mean((1, 2)))
    # A poorly learnt mask is near 0.5 everywhere; most masks are equal to the pixel.
    assert np.concatenate(wrong_pixels).mean() <= 1e-4

    own = precision(categories, case.source, results)
    pasted = [as_result(record, out) for record, out in expected]
    reference = precision(categories, case.source, pasted)
    for name in ("box/AP", "mask/AP"):
        assert own[name] == pytest.approx(reference[name], abs=1e-3)


def test_features_and_proposals(case):
    model = build(case.arch, case.state)
    run = load_run(case.folder, overrides=(SAME_CANVAS,))
    options = run.setup.experiment.mask_rcnn("this test")
    classes = len(run.categories) + 1
    for batch in pipeline.eval_batches(case.source, (), run.setup.experiment.data, batch_size=4):
        levels, proposals = our_side.look_inside(options, classes, run.variables, batch)
        images = [overfitted.read_image(case.source[i]) for i in batch.index.tolist()]
        their_levels, their_proposals = torchvision_side.look_inside(model, images)
        for level, expected in zip(levels, their_levels, strict=True):
            assert np.abs(level - expected).max() <= 1e-4 * np.abs(expected).max()
        for boxes, expected in zip(proposals, their_proposals, strict=True):
            distance = np.abs(boxes[:, None] - expected).max(-1)
            assert len(expected) == len(boxes)
            # Nearly all boxes match; a few depend on almost equal values in the NMS.
            assert np.mean(distance.min(0) < 0.02) > 0.995
            assert np.mean(distance.min(1) < 0.02) > 0.995


MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of pixels 0..1


def as_batch(images, targets):
    """Return torchvision's transformed images and targets as our batch, with masks padded too."""
    pixels = images.tensors.numpy().transpose(0, 2, 3, 1) * STD + MEAN
    rows, slots = len(targets), max(len(target["labels"]) for target in targets)
    height, width = pixels.shape[1:3]
    gt = GroundTruth(
        boxes=np.zeros((rows, slots, 4), np.float32),
        classes=np.zeros((rows, slots), np.int32),
        valid=np.zeros((rows, slots), bool),
        masks=np.zeros((rows, slots, height, width), np.uint8),
        mask_valid=np.zeros((rows, slots), bool),
        ignored=np.zeros((rows, 0, 4), np.float32),
        attributes={},
    )
    for row, target in enumerate(targets):
        count = len(target["labels"])
        gt.boxes[row, :count] = target["boxes"].numpy()
        gt.classes[row, :count] = target["labels"].numpy()
        gt.valid[row, :count] = gt.mask_valid[row, :count] = True
        # torchvision's masks end with the image; beyond it their last cells are repeated.
        down, across = np.subtract((height, width), images.image_sizes[row])
        gt.masks[row, :count] = 255 * np.pad(
            target["masks"].numpy(), ((0, 0), (0, down), (0, across)), mode="edge"
        )
    yes = np.ones(rows, bool)
    sizes = np.array(images.image_sizes, np.float32)
    return Batch(255 * pixels, sizes, yes, yes, np.arange(rows), gt)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # raised by disabling oneDNN
def test_losses_and_gradients(case):
    """Every anchor and region is sampled, so that there is no randomness; norms are constant in
    both libraries.
    """
    records = [case.source[i] for i in range(2)]
    images = [overfitted.read_image(record) for record in records]
    targets = [overfitted.target(record) for record in records]

    def differentiate():
        model = build(case.arch, case.state, **torchvision_side.EXHAUSTIVE)
        return torchvision_side.differentiate(model, images, targets)

    expected = differentiate()
    assert expected.largest > 1
    # Rounding decides which ReLUs near 0 pass a gradient: with other convolutions, the gradient of
    # torchvision's own backbone changes by 3 %.
    with torch.backends.mkldnn.flags(enabled=False):
        again = differentiate()
    batch = as_batch(*build(case.arch, case.state).transform(images, targets))

    run = load_run(case.folder)
    options = run.setup.experiment.mask_rcnn("this test")
    classes = len(run.categories) + 1
    terms, found = our_side.differentiate(options, classes, run.variables, batch)
    for name, value in expected.terms.items():
        assert terms[name] == pytest.approx(value, rel=1e-3), name
    tensors = names.model_tensors(options)
    reference, other = (names.to_variables(x.gradients, tensors) for x in (expected, again))
    for name in run.variables["params"]:
        ours, theirs, again = (our_side.part(x, name) for x in (found, reference, other))
        limit = max(1e-2, our_side.distance(again, theirs) if name == "backbone" else 0)
        assert our_side.distance(ours, theirs) <= limit, name
