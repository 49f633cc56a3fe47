"""Checks of the files that evaluate.py and predict.py write."""

import json
import math

import cv2

COUNTS = {"instances", "labelled", "misses"}
# COCO's AP by size is also written, for the sizes of objects in the data.
SIZES = {f"{kind}/AP_{size}" for kind in ("box", "mask") for size in ("small", "medium", "large")}
FIELDS = {
    *("image_id", "file_name", "category_id", "category", "bbox", "score", "attributes"),
}


def metric_names_of(attributes, classes, masks):
    names = {
        f"{kind}/{name}"
        for kind in (("box", "mask") if masks else ("box",))
        for name in ("AP", "AP50", "AP75", *(f"AP/{name}" for name in classes))
    }
    names |= {f"{a}/{name}" for a, found in attributes.items() for name in found | COUNTS}
    return names | {"detections/false_alarms"}


def check_metrics(path, attributes, classes, masks):
    metrics = json.loads(path.read_text())
    more = {name for name in metrics if "/by_" in name or "/interval/" in name}
    expected = metric_names_of(attributes, classes, masks)
    # An attribute without matched detections has no errors, only misses.
    missing = {
        f"{a}/{name}"
        for a, found in attributes.items()
        for name in found
        if metrics[f"{a}/misses"] == metrics[f"{a}/labelled"]
    }
    assert expected - missing <= set(metrics) - more <= expected | SIZES
    assert all(isinstance(v, float) and math.isfinite(v) for v in metrics.values())
    return metrics


def check_predictions(output, sizes, attributes, names, masks):
    entries = json.loads((output / "predictions.json").read_text())
    assert entries
    for entry in entries:
        assert set(entry) == (FIELDS | {"segmentation"} if masks else FIELDS)
        height, width = sizes[entry["file_name"]]
        assert sorted(sizes).index(entry["file_name"]) == entry["image_id"]
        x, y, w, h = entry["bbox"]
        assert x >= 0
        assert y >= 0
        assert x + w <= width + 0.01
        assert y + h <= height + 0.01
        if masks:
            assert entry["segmentation"]["size"] == [height, width]
        assert (entry["category_id"], entry["category"]) in names
        assert 0 <= entry["score"] <= 1
        assert {name: set(found) for name, found in entry["attributes"].items()} == attributes
    for name, size in sizes.items():
        assert cv2.imread(str(output / "overlays" / f"{name}.png")).shape[:2] == size
    return entries
