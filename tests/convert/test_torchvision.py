"""Compare torchvision's own models with ours for the same weights."""

import re

import numpy as np
import pytest
from convert.planted import plant
from file_server import serving
from mistakes import check_names, refused
from scenes import random_batch

from mtl_jax.convert import torchvision as convert
from mtl_jax.convert.weight_files import read_tensors
from mtl_jax.runs.loading import load_run

torch = pytest.importorskip("torch")
detection = pytest.importorskip("torchvision.models.detection")
SIZE = 96


def make(arch, classes=5):
    """Return torchvision's model with random weights that detect objects with different scores."""
    torch.manual_seed(0)
    make = getattr(detection, arch)
    sizes = dict(min_size=SIZE, max_size=SIZE, box_score_thresh=0.0)
    model = make(weights=None, weights_backbone=None, num_classes=classes, **sizes)
    model.roi_heads.box_predictor.cls_score.weight.data *= 20
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.1, 0.1),
                (module.running_var, 0.8, 1.5),
                (module.weight.data, 0.5, 1.0),
                (module.bias.data, -0.1, 0.1),
            ):
                tensor.uniform_(low, high)
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    "arch",
    [
        "maskrcnn_resnet50_fpn",
        "maskrcnn_resnet50_fpn_v2",
        "fasterrcnn_resnet50_fpn",
        "keypointrcnn_resnet50_fpn",
    ],
)
def test_weights_detect_the_same_and_are_exported_to_the_bit(arch, tmp_path, capsys):
    theirs = make(arch)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    convert.import_weights(
        str(tmp_path / "weights.pth"),
        tmp_path / "run",
        min_size=SIZE,
        max_size=SIZE,
        score_threshold=0.0,
    )
    check_names(capsys.readouterr().out, arch)
    batch = random_batch(images=1, size=SIZE)
    found = load_run(tmp_path / "run").predict(batch.inputs)
    with torch.no_grad():
        pixels = torch.tensor(batch.images[0].transpose(2, 0, 1) / 255, dtype=torch.float32)
        expected = theirs([pixels])[0]
    count = len(expected["scores"])
    assert count > 50
    assert found.valid.sum() == count
    np.testing.assert_allclose(found.scores[0, :count], expected["scores"], atol=1e-5)
    np.testing.assert_allclose(found.boxes[0, :count], expected["boxes"], atol=2e-3)
    np.testing.assert_array_equal(found.classes[0, :count], expected["labels"])

    convert.export_weights(tmp_path / "run", tmp_path / "back.pth")
    assert "roi.aligned" not in capsys.readouterr().out
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    for key, tensor in theirs.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(back.pop(key), tensor), key
    assert not back


@pytest.mark.slow
def test_a_convnext_becomes_a_backbone(tmp_path, capsys):
    models = pytest.importorskip("torchvision.models")
    state = models.convnext_tiny().state_dict()
    torch.save(state, tmp_path / "convnext.pth")
    convert.import_weights(str(tmp_path / "convnext.pth"), tmp_path / "run")
    assert "convnext_tiny" in capsys.readouterr().out
    run = load_run(tmp_path / "run")
    assert run.setup.experiment.model.backbone.name == "convnext_tiny"
    np.testing.assert_array_equal(
        run.variables["params"]["backbone"]["stage3"]["down"]["conv"]["kernel"],
        state["features.2.1.weight"].numpy().transpose(2, 3, 1, 0),
    )
    found = run.predict(random_batch(images=1, size=SIZE).inputs)
    assert np.isfinite(found.boxes[found.valid]).all()
    with refused("convnext_tiny"):
        convert.export_weights(tmp_path / "run", tmp_path / "back.pth")


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_a_resnet_becomes_a_backbone(depth, tmp_path, capsys):
    models = pytest.importorskip("torchvision.models")
    state = getattr(models, f"resnet{depth}")().state_dict()
    torch.save(state, tmp_path / "resnet.pth")
    convert.import_weights(str(tmp_path / "resnet.pth"), tmp_path / "run")
    printed = capsys.readouterr().out
    assert f"resnet{depth}" in printed
    for module, count in (("fc", 2), ("num_batches_tracked", sum("num_b" in key for key in state))):
        assert re.search(rf"^{module} +{count} ", printed, re.MULTILINE)
    backbone = load_run(tmp_path / "run").variables["params"]["backbone"]
    np.testing.assert_array_equal(
        backbone["stem"]["conv1"]["kernel"], state["conv1.weight"].numpy().transpose(2, 3, 1, 0)
    )


@pytest.mark.slow
def test_an_entry_of_the_weights_is_downloaded_and_has_its_epsilon(tmp_path, monkeypatch):
    """COCO_V1's file has an older torchvision's names."""
    state = make("maskrcnn_resnet50_fpn", classes=91).state_dict()
    for new, old in (
        (r"rpn.head.conv.0.0.", "rpn.head.conv."),
        ("inner_blocks.0.0.", "inner_blocks.0."),
        ("layer_blocks.3.0.", "layer_blocks.3."),
        ("mask_head.0.0.", "mask_head.mask_fcn1."),
        ("mask_head.3.0.", "mask_head.mask_fcn4."),
    ):
        state = {key.replace(new, old): value for key, value in state.items()}
    torch.save(state, tmp_path / "planted.pth")
    monkeypatch.setenv("MTL_JAX_WEIGHTS", str(tmp_path / "weights"))
    with serving() as server:
        content = (tmp_path / "planted.pth").read_bytes()
        plant(server, "maskrcnn_resnet50_fpn", content, monkeypatch)
        convert.import_weights("MaskRCNN_ResNet50_FPN_Weights.COCO_V1", tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert run.setup.experiment.model.backbone.norm_eps == 0.0
    assert [c.name for c in run.categories[:3]] == ["person", "bicycle", "car"]
    assert run.setup.experiment.data.resize.min_size == 800


class Command:
    """An object of a hostile file, which runs a command when it is unpickled."""

    def __reduce__(self):
        import os

        return os.system, ("touch hostile",)


def test_files_that_contain_anything_but_tensors_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": Command()}, "hostile.pth")
    torch.save({"epoch": 3}, "numbers.pth")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "numbers.pth").read_bytes()[:200])
    for name in ("hostile.pth", "numbers.pth", "empty.pth", "cut.pth", "absent.pth"):
        with refused(name):
            read_tensors(name)
    assert not (tmp_path / "hostile").exists()
