"""The table of public weights: torchvision's own descriptions, and the documentation."""

import re

import pytest
import scripts
from mistakes import check_names

from mtl_jax.convert import pretrained
from mtl_jax.convert.torchvision_names import arch_options

MIB = 2**20
TORCHVISIONS = [weights for weights in pretrained.TABLE if weights.entry]
METRICS = {"box_map": "box/AP", "mask_map": "mask/AP", "kp_map": "keypoints/AP"}


@pytest.fixture(params=TORCHVISIONS, ids=lambda weights: weights.entry)
def described(request):
    """Return an entry of the table and torchvision's."""
    models = pytest.importorskip("torchvision.models")
    return request.param, models.get_weight(request.param.entry)


def test_files_and_metrics_are_those_that_torchvision_states(described):
    ours, theirs = described
    assert ours.address == theirs.url
    assert f"-{ours.sha256}." in theirs.url
    assert len(ours.sha256) == 8
    assert abs(ours.size / MIB - theirs.meta["_file_size"]) <= 0.0005
    assert ours.rounding <= 0.1 * MIB
    assert ours.recipe == theirs.meta["recipe"]
    ((data, metrics),) = theirs.meta["_metrics"].items()
    if ours.is_backbone:
        expected = {"accuracy": metrics["acc@1"] / 100}
    else:
        expected = {METRICS[name]: value / 100 for name, value in metrics.items()}
    assert ours.metrics == pytest.approx(expected)
    assert data.replace("COCO-", "COCO ") in ours.evaluated_on


def test_the_epsilon_is_that_of_torchvisions_model(described):
    """Torchvision's builders set the epsilon of the norms of some entries after loading them."""
    ours, theirs = described
    detection = pytest.importorskip("torchvision.models.detection")
    import inspect

    if ours.is_backbone:
        assert ours.norm_eps == 1e-5
        return
    build = getattr(detection, ours.entry.partition("_Weights")[0].lower())
    source = inspect.getsource(build)
    changed = re.search(r"if weights == (\w+\.\w+):\s+overwrite_eps\(model, 0\.0\)", source)
    is_changed = changed is not None and changed[1] == str(theirs)
    assert ours.norm_eps == (0.0 if is_changed else 1e-5)


def test_a_short_name_is_that_of_the_default_entry(described):
    ours, theirs = described
    default = type(theirs).DEFAULT
    name = ours.entry.partition("_Weights")[0].lower()
    assert ours.name == (name if theirs is default else ours.entry)
    assert pretrained.find(ours.entry) is ours
    arch_options(name)


def test_every_name_is_found_and_documented():
    names = [weights.name for weights in pretrained.TABLE]
    assert len(set(names)) == len(names)
    page = (scripts.ROOT / "docs/weights.md").read_text()
    for weights in pretrained.TABLE:
        assert pretrained.find(weights.name) is weights
        assert weights.licence.startswith("not published")
        line = next(line for line in page.splitlines() if line.startswith(f"| `{weights.name}` |"))
        check_names(line, f"{weights.size / 1e6:.0f}")
        for value in weights.metrics.values():
            check_names(line, f"{100 * value:.1f}")
    assert pretrained.find("") is None
    assert str(pretrained.unknown("resnet5")).endswith("did you mean resnet50?")


def test_matterports_file_is_known_by_its_size():
    weights = pretrained.find("mask_rcnn_coco")
    assert weights is not None
    assert (weights.file_name, weights.size, weights.rounding) == (
        "mask_rcnn_coco.h5",
        257557808,
        0,
    )
    assert not weights.sha256
