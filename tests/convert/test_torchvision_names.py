import numpy as np
import pytest
from mistakes import check_faults, refused

from mtl_jax.attributes.landmarks import Landmarks
from mtl_jax.convert import torchvision_names as names
from mtl_jax.convert.coco_names import coco_categories
from mtl_jax.convert.torchvision import read_categories
from mtl_jax.errors import UserError

ARCHS = (
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet18_fpn",
    "keypointrcnn_resnet50_fpn",
)


def state_of(arch):
    """Return a state dict of empty tensors; only the names matter."""
    points = [Landmarks("points", points=("a",), loss="heatmap")] if "keypoint" in arch else []
    return {t.key: np.zeros(0) for t in names.model_tensors(names.arch_options(arch), points)}


@pytest.mark.parametrize("arch", ARCHS)
def test_a_model_is_identified_by_its_names(arch):
    assert names.guess_arch(state_of(arch)) == arch


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50", "resnet101", "convnext_tiny"])
def test_a_backbone_is_identified_by_its_names(arch):
    options = names.arch_options(arch)
    state = {t.key: np.zeros(0) for t in names.backbone_tensors(options.backbone)}
    assert names.guess_arch(state) == arch


@pytest.mark.parametrize("arch", ["", "resnet51", "resnet50_fpn", "maskrcnn_resnet50", "yolo"])
def test_unknown_models_are_named(arch):
    with refused("--arch", arch):
        names.arch_options(arch)


@pytest.mark.parametrize("arch", ARCHS)
def test_every_tensor_has_one_name_in_each_library(arch):
    tensors = names.model_tensors(names.arch_options(arch))
    assert len({t.path for t in tensors}) == len({t.key for t in tensors}) == len(tensors)


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        (names.VECTOR, (5,)),
        (names.DENSE, (5, 7)),
        (names.CONV, (5, 7, 3, 2)),
        (names.DECONV, (5, 7, 2, 2)),
        (names.DEPTHWISE, (5, 1, 3, 2)),
        (names.CHANNELS, (5, 1, 1)),
        (names.TURNED_DECONV, (5, 7, 2, 2)),
        (names.PIXEL_DENSE, (5, 7, 1, 1)),
        (names.flattened(3), (5, 4 * 9)),
    ],
)
def test_layouts_convert_both_ways(layout, shape):
    theirs = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(layout.to_theirs(layout.to_ours(theirs)), theirs)


def test_a_flattened_region_has_torchvisions_product():
    """Channels first in torchvision, channels last here: the sums are the same."""
    rng = np.random.default_rng(0)
    weight, region = rng.normal(size=(5, 4 * 9)), rng.normal(size=(4, 3, 3))
    ours = region.transpose(1, 2, 0).reshape(-1) @ names.flattened(3).to_ours(weight)
    np.testing.assert_allclose(ours, weight @ region.reshape(-1))


def test_unexpected_and_missing_tensors_are_listed():
    state = state_of("maskrcnn_resnet50_fpn")
    tensors = names.model_tensors(names.arch_options("maskrcnn_resnet50_fpn"))
    del state["rpn.head.bbox_pred.bias"]
    state |= {"extra.weight": np.zeros(0), "ema.decay": np.zeros(0)}
    with pytest.raises(UserError) as error:
        names.to_variables(state, tensors, unused=("^ema",))
    faults = str(error.value).splitlines()[1:]
    check_faults(faults, ("extra.weight",), ("rpn.head.bbox_pred.bias",))
    with refused("--unused", "["):
        names.to_variables(state, tensors, unused=("[",))


def test_a_group_norm_is_refused():
    from dataclasses import replace

    options = names.arch_options("maskrcnn_resnet50_fpn")
    grouped = replace(options, fpn=replace(options.fpn, norm="group"))
    with refused("group"):
        names.model_tensors(grouped)


def test_class_names_come_from_a_file_coco_or_numbers(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("cat\ndog\n")
    assert [(c.id, c.name) for c in read_categories(file, 3)] == [(1, "cat"), (2, "dog")]
    assert [c.name for c in read_categories(None, 3)] == ["class 1", "class 2"]
    assert read_categories(None, 91) == list(coco_categories())
    for text in ("cat\n", "cat\ncat\n"):
        file.write_text(text)
        with refused("names.txt"):
            read_categories(file, 3)
    with refused(tmp_path / "absent"):
        read_categories(tmp_path / "absent", 3)


def test_coco_has_80_names_on_90_ids():
    found = coco_categories()
    assert [c.id for c in found] == list(range(1, 91))
    assert sum(not c.name.startswith("unused") for c in found) == 80
    assert (found[89].name, found[61].name) == ("toothbrush", "chair")
