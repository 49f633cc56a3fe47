"""Public weights by name, from a file of the real name and layout with weights that were overfitted
to photographs: the detections are torchvision's.
"""

import os

import numpy as np
import pytest
from convert.paired import pair
from convert.planted import plant
from file_server import serving
from real_data import data_set

from mtl_jax.convert.torchvision_names import KEYPOINT_LOGITS
from mtl_jax.inference.predictor import Predictor

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
overfitted = pytest.importorskip("convert.overfitted")
persons = pytest.importorskip("convert.persons")
torchvision_side = pytest.importorskip("convert.torchvision_side")

pytestmark = pytest.mark.slow
# Twenty take three minutes for each model.
PHOTOGRAPHS = int(os.environ.get("MTL_JAX_PARITY_PHOTOGRAPHS", "6"))
SIZE = overfitted.SIZE
# Weights are overfitted at this size; by default public weights have torchvision's, 800 to 1333.
RESIZE = [
    f"--config.data.resize.{field}={value}"
    for field, value in (
        ("min_size", SIZE),
        ("max_size", SIZE),
        ("canvases", f"(({SIZE},{SIZE}),)"),
    )
]


def learnt_weights(name, folder):
    """Return the weights of a model and the photographs that it was trained on."""
    coco = data_set("coco_mini")
    if name.startswith("keypoint"):
        chosen = persons.choose(coco)
        images = [persons.read_image(path) for path in chosen]
        targets = list(map(persons.target, chosen.values()))
        file = overfitted.weight_file(name, images, targets, 2, 25)
        return torch.load(file, weights_only=True), list(chosen)
    source = overfitted.photographs(coco, folder / "images.json")
    records = [source[i] for i in range(overfitted.LEARNT)]
    file = overfitted.weight_file(
        name.replace("faster", "mask"),
        [overfitted.read_image(record) for record in records],
        [overfitted.target(record) for record in records],
        len(source.categories) + 1,
        60,
    )
    state = torch.load(file, weights_only=True)
    if name.startswith("faster"):
        state = {key: x for key, x in state.items() if not key.startswith("roi_heads.mask")}
    return state, [record.image for record in records]


@pytest.mark.parametrize(
    "name",
    [
        "maskrcnn_resnet50_fpn",
        "maskrcnn_resnet50_fpn_v2",
        "fasterrcnn_resnet50_fpn",
        "keypointrcnn_resnet50_fpn",
    ],
)
def test_public_weights_detect_what_torchvision_detects(name, tmp_path, monkeypatch):
    state, learnt = learnt_weights(name, tmp_path)
    others = sorted((data_set("coco_mini") / "images").iterdir())
    photographs = [*learnt, *(path for path in others if path not in learnt)][:PHOTOGRAPHS]
    torch.save(state, tmp_path / "planted.pth")
    monkeypatch.setenv("MTL_JAX_WEIGHTS", str(tmp_path / "weights"))
    with serving() as server:
        planted = plant(server, name, (tmp_path / "planted.pth").read_bytes(), monkeypatch)
        ours = Predictor.from_pretrained(name, overrides=RESIZE)
    theirs = torchvision_side.load(name, state, (SIZE, SIZE))
    # torchvision's own function changes only frozen norms, which a model without weights does not
    # have, and its other norms refuse 0. With the wrong epsilon, boxes are wrong by 0.03 pixels.
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = planted.norm_eps or 1e-30
    heatmaps = []
    if name.startswith("keypoint"):
        theirs.get_submodule(KEYPOINT_LOGITS.rpartition(".")[0]).register_forward_hook(
            lambda module, given, found: heatmaps.append(found.numpy())
        )
    best, pairs, wrong_pixels = [], 0, []
    for path in photographs:
        result, (expected,) = (
            ours(path),
            torchvision_side.detect(theirs, [persons.read_image(path)]),
        )
        own, other = pair(result, expected)
        pairs += len(own)
        np.testing.assert_allclose(result.scores[own], expected["scores"][other], atol=1e-4)
        if path in learnt:
            best.append(expected["scores"].max(initial=0.0))
        if "masks" in expected and len(own):
            masks = expected["masks"][other, 0] >= 0.5
            wrong_pixels.append((result.masks[own] != masks).mean((1, 2)))
        if heatmaps and len(own):
            check_keypoints(result, own, expected, other, heatmaps[-1])
    assert np.median(best) > 0.5
    assert pairs >= 2 * PHOTOGRAPHS
    if wrong_pixels:
        assert np.concatenate(wrong_pixels).mean() <= 1e-4


def check_keypoints(result, own, expected, other, heatmaps):
    """Assert that keypoints are equal, except where rounding decides between two peaks."""
    found = result.attributes["keypoints"].reshape(len(result), -1, 3)[own, :, :2]
    best = np.sort(heatmaps.reshape(*heatmaps.shape[:2], -1), -1)[other]
    clear = best[..., -1] - best[..., -2] > 1e-4
    distance = np.abs(found - expected["keypoints"][other, :, :2]).max(-1)
    assert (distance[clear] <= 0.05).all()
