"""torchvision's Keypoint R-CNN overfitted to photographs of persons, and its weights here: the same
keypoints.
"""

import numpy as np
import pytest
from real_data import data_set

from mtl_jax.convert import torchvision as convert
from mtl_jax.inference.predictor import Predictor

torch = pytest.importorskip("torch")
detection = pytest.importorskip("torchvision.models.detection")
overfitted = pytest.importorskip("convert.overfitted")
persons = pytest.importorskip("convert.persons")

pytestmark = pytest.mark.slow
ARCH, STEPS = "keypointrcnn_resnet50_fpn", 25


def test_keypoints_are_torchvisions(tmp_path):
    chosen = persons.choose(data_set("coco_mini"))
    assert len(chosen) == overfitted.BATCH
    images = [persons.read_image(path) for path in chosen]
    targets = list(map(persons.target, chosen.values()))
    file = overfitted.weight_file(ARCH, images, targets, 2, STEPS)
    size = overfitted.SIZE
    convert.import_weights(str(file), tmp_path / "run", min_size=size, max_size=size)
    run = Predictor.from_checkpoint(tmp_path / "run")
    assert [category.name for category in run.categories] == ["person"]
    theirs = detection.keypointrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=size, max_size=size
    )
    theirs.load_state_dict(torch.load(file, weights_only=True))
    theirs.eval()
    heatmaps = []
    head = theirs.roi_heads.keypoint_predictor
    head.register_forward_hook(lambda module, given, found: heatmaps.append(found.numpy()))
    apart = []
    for path, image in zip(chosen, images, strict=True):
        result = run(path)
        with torch.no_grad():
            expected = theirs([image])[0]
        count = len(expected["scores"])
        assert len(result) == count > 0
        assert expected["scores"][0] > 0.5
        np.testing.assert_allclose(result.boxes, expected["boxes"], atol=0.02)
        found = result.attributes["keypoints"].reshape(count, 17, 3)
        # Where two cells are all but equally high, rounding decides which is the peak.
        best = np.sort(heatmaps[-1].reshape(count, 17, -1), -1)
        clear = best[..., -1] - best[..., -2] > 1e-4
        assert clear.mean() > 0.9
        distance = np.abs(found[..., :2] - expected["keypoints"].numpy()[..., :2]).max(-1)
        assert (distance[clear] <= 0.05).all()
        logits = expected["keypoints_scores"].numpy()
        np.testing.assert_allclose(found[..., 2], 1 / (1 + np.exp(-logits)), atol=1e-3)
        apart.append(distance[clear].max())
    print("largest distance in pixels", max(apart))
