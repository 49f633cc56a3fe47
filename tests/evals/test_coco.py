import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mtl_jax.data.records import Category, Instance, Record
from mtl_jax.evals.coco import CocoScorer, segmentation_rle
from mtl_jax.results import Result, paste_mask

# pycocotools 2.0.11 decodes with a protocol that NumPy 2 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CATEGORIES = (Category(3, "cat"), Category(17, "dog"), Category(44, "owl"))
SIZE = 120


def result_of(boxes, scores, classes, masks=True):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    classes = np.array(classes, int)
    return Result(
        boxes=boxes,
        scores=np.array(scores, np.float32),
        classes=classes,
        class_names=tuple(CATEGORIES[c - 1].name for c in classes),
        category_ids=np.array([CATEGORIES[c - 1].id for c in classes], int),
        height=SIZE,
        width=SIZE,
        mask_probabilities=np.ones((len(boxes), 28, 28), np.float32) if masks else None,
    )


def record_of(instances, image_id=0, exhaustive=True):
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    return Record(pixels, SIZE, SIZE, image_id, f"{image_id}.png", tuple(instances), exhaustive)


def instance(box, label=1, **fields):
    """Make an instance whose mask is a full mask pasted on its box."""
    fields.setdefault("segmentation", paste_mask(np.ones((28, 28)), np.array(box), SIZE, SIZE))
    return Instance(box=tuple(float(v) for v in box), label=label, **fields)


def scored(*pairs):
    scorer = CocoScorer(CATEGORIES)
    for record, result in pairs:
        scorer.add(record, result)
    return scorer.metrics()


def random_box(rng, smallest=4, largest=70):
    x, y = rng.uniform(0, SIZE - smallest, 2)
    w, h = rng.uniform(smallest, largest, 2)
    return [x, y, min(x + w, SIZE), min(y + h, SIZE)]


def random_pair(rng, image_id):
    """Make an image with detections, some of them near its instances."""
    instances = [
        instance(random_box(rng), int(rng.integers(1, 4)), crowd=bool(rng.random() < 0.15))
        for _ in range(rng.integers(0, 7))
    ]
    boxes = [np.clip(np.array(i.box) + rng.normal(0, 3, 4), 0, SIZE) for i in instances]
    boxes = [np.concatenate([np.minimum(b[:2], b[2:]), np.maximum(b[:2], b[2:])]) for b in boxes]
    classes = [i.label for i in instances]
    for _ in range(rng.integers(0, 5)):
        boxes.append(np.array(random_box(rng)))
        classes.append(int(rng.integers(1, 4)))
    scores = np.sort(rng.random(len(boxes)))[::-1]
    return record_of(instances, image_id), result_of(boxes, scores, classes)


def by_files(pairs, kind, folder):
    """Score through two JSON files in COCO's formats that pycocotools reads."""
    images, annotations, found = [], [], []
    for record, result in pairs:
        images.append({"id": record.image_id, "height": SIZE, "width": SIZE})
        for i in record.instances:
            rle = coco_mask.encode(np.asfortranarray(i.segmentation.astype(np.uint8)))
            x1, y1, x2, y2 = i.box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record.image_id,
                    "category_id": CATEGORIES[i.label - 1].id,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(coco_mask.area(rle)),
                    "iscrowd": int(i.crowd),
                    "segmentation": {"size": [SIZE, SIZE], "counts": rle["counts"].decode()},
                }
            )
        entries = result.to_json(record.image_id, record.file_name)
        for entry, box, score in zip(
            entries, result.boxes.tolist(), result.scores.tolist(), strict=True
        ):
            exact = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            entry |= {"bbox": exact, "score": score}
            entry.pop("bbox" if kind == "segm" else "segmentation")
            found.append(entry)
    categories = [category._asdict() for category in CATEGORIES]
    truth_file, found_file = folder / "truth.json", folder / "found.json"
    data = {"images": images, "annotations": annotations, "categories": categories}
    truth_file.write_text(json.dumps(data))
    found_file.write_text(json.dumps(found))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(truth_file))
        evaluation = COCOeval(truth, truth.loadRes(str(found_file)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_those_of_pycocotools_from_files(seed, tmp_path):
    rng = np.random.default_rng(seed)
    pairs = [random_pair(rng, 100 + 7 * i) for i in range(8)]
    metrics = scored(*pairs)
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
    for prefix, kind in (("box", "bbox"), ("mask", "segm")):
        stats = by_files(pairs, kind, tmp_path)
        assert 0.05 < stats[0] < 0.95
        for name, expected in zip(names, stats[:6], strict=True):
            value = metrics.get(f"{prefix}/{name}", -1)
            assert value == pytest.approx(expected, abs=1e-9), (prefix, name)


def test_perfect_detections_reach_one_and_print_nothing(capsys):
    boxes = [(5, 5, 60, 40), (50, 50, 110, 115)]
    truth = record_of([instance(boxes[0], 1), instance(boxes[1], 2)])
    metrics = scored((truth, result_of(boxes, [0.9, 0.8], [1, 2])))
    for kind in ("box", "mask"):
        for name in ("AP", "AP50", "AP75", "AP/cat", "AP/dog"):
            assert metrics[f"{kind}/{name}"] == pytest.approx(1)
        assert f"{kind}/AP/owl" not in metrics
        assert f"{kind}/AP_small" not in metrics
    assert capsys.readouterr().out == ""


def test_an_image_without_objects_has_false_positives():
    truth = record_of([instance((5, 5, 60, 40))])
    found = result_of([(5, 5, 60, 40)], [0.5], [1])
    negative = (record_of([], 1), result_of([(5, 5, 60, 40)], [0.9], [1]))
    assert scored((truth, found))["box/AP50"] == pytest.approx(1)
    assert scored((truth, found), negative)["box/AP50"] == pytest.approx(0.5)


def test_an_instance_without_a_mask_counts_only_for_boxes():
    with_mask = instance((5, 5, 60, 40))
    box_only = instance((70, 60, 110, 115), segmentation=None)
    truth = record_of([with_mask, box_only])
    found_both = result_of([(70, 60, 110, 115), (5, 5, 60, 40)], [0.9, 0.8], [1, 1])
    found_one = result_of([(5, 5, 60, 40)], [0.8], [1])
    assert scored((truth, found_both))["mask/AP"] == pytest.approx(1)
    assert scored((truth, found_one))["mask/AP"] == pytest.approx(1)
    assert scored((truth, found_one))["box/AP"] < 0.6
    # A rough detection and another within the box are neither true nor false positives.
    rough = [(66, 55, 106, 113), (75, 70, 100, 100), (5, 5, 60, 40)]
    assert scored((truth, result_of(rough, [0.9, 0.85, 0.8], [1, 1, 1])))[
        "mask/AP"
    ] == pytest.approx(1)
    # A detection of another class is a false positive.
    other = instance((10, 50, 50, 110), 2)
    pair = record_of([with_mask, box_only, other])
    wrong = result_of([(70, 60, 110, 115), other.box], [0.9, 0.8], [2, 2])
    assert scored((pair, wrong))["mask/AP/dog"] == pytest.approx(0.5)


def test_a_model_without_masks_has_no_mask_metrics():
    truth = record_of([instance((5, 5, 60, 40))])
    metrics = scored((truth, result_of([(5, 5, 60, 40)], [0.9], [1], masks=False)))
    assert metrics["box/AP"] == pytest.approx(1)
    assert not any(name.startswith("mask/") for name in metrics)


def test_nothing_found_is_zero_and_nothing_annotated_is_absent():
    nothing = result_of([], [], [])
    metrics = scored((record_of([instance((5, 5, 60, 40))]), nothing))
    assert metrics["box/AP"] == 0
    assert metrics["mask/AP"] == 0
    assert scored((record_of([]), result_of([(5, 5, 60, 40)], [0.9], [1]))) == {}
    assert scored() == {}


def test_only_the_hundred_best_count():
    rubbish = [(100, 100, 110, 110)] * 100
    truth = record_of([instance((5, 5, 60, 40))])
    boxes = [*rubbish, (5, 5, 60, 40)]
    last = result_of(boxes, np.linspace(0.9, 0.1, 101), [1] * 101)
    assert scored((truth, last))["box/AP"] == 0
    first = result_of(boxes, np.linspace(0.1, 0.9, 101), [1] * 101)
    assert scored((truth, first))["box/AP"] == pytest.approx(1)


def test_the_hundred_are_per_class():
    boxes = [(2 * i, 0, 2 * i + 1, 9) for i in range(120)]
    truth = record_of([instance(box, i % 2 + 1) for i, box in enumerate(boxes)])
    found = result_of(boxes, np.linspace(0.9, 0.1, 120), [i % 2 + 1 for i in range(120)])
    assert scored((truth, found))["box/AP"] == pytest.approx(1)


def test_every_form_of_segmentation_gives_the_same_mask():
    mask = np.zeros((30, 40), bool)
    mask[5:20, 10:25] = True
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    runs = np.flatnonzero(np.diff(mask.T.ravel().astype(int), prepend=0)).tolist()
    counts = np.diff([0, *runs, mask.size]).tolist()
    forms = [
        mask,
        [[10.0, 5.0, 25.0, 5.0, 25.0, 20.0, 10.0, 20.0]],
        {"size": [30, 40], "counts": counts},
        {"size": [30, 40], "counts": rle["counts"]},
        {"size": [30, 40], "counts": rle["counts"].decode()},
    ]
    for form in forms:
        encoded = segmentation_rle(Instance((10, 5, 25, 20), 1, form), 30, 40)
        np.testing.assert_array_equal(coco_mask.decode(encoded), mask)
    assert segmentation_rle(Instance((10, 5, 25, 20), 1), 30, 40) is None


def test_curves_are_computed_once_and_again_after_another_image(monkeypatch):
    scorer, runs, evaluate = CocoScorer(CATEGORIES), [], COCOeval.evaluate
    monkeypatch.setattr(COCOeval, "evaluate", lambda self: runs.append(self) or evaluate(self))
    truth = record_of([instance((5, 5, 60, 40))])
    scorer.add(truth, result_of([(5, 5, 60, 40)], [0.9], [1]))
    assert scorer.metrics()["box/AP"] == pytest.approx(1)
    assert set(scorer.curves()) == {"box", "mask"}
    assert len(runs) == 2
    scorer.add(truth, result_of([], [], []))
    assert scorer.metrics()["box/AP"] == pytest.approx(0.5, abs=0.01)
    assert len(runs) == 4


@pytest.mark.parametrize("masks", [True, False])
def test_detections_on_ignored_boxes_are_no_false_positives(masks):
    cat, left_out = (10, 10, 50, 50), (60, 60, 100, 100)
    found = result_of([left_out, cat], [0.9, 0.8], [1, 1], masks)
    record = record_of([instance(cat)])
    assert scored((record, found))["box/AP/cat"] == pytest.approx(0.5)
    around = (58, 58, 102, 102)  # a pasted mask exceeds its box
    metrics = scored((replace(record, ignored=(around,)), found))
    names = {"box/AP/cat", "box/AP", *(("mask/AP/cat", "mask/AP") if masks else ())}
    assert {name: metrics[name] for name in names} == dict.fromkeys(names, pytest.approx(1))
    assert "box/AP/dog" not in metrics
