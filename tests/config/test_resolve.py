"""Resolution of configs: all mistakes at once, blocks by name, and runs of earlier versions."""

import json

import pytest
import scripts
from mistakes import check_faults, refused

from mtl_jax.config.blocks import blocks_of
from mtl_jax.config.defaults import get_default
from mtl_jax.config.overrides import load_config_file, override
from mtl_jax.config.resolve import from_stored, resolve
from mtl_jax.errors import UserError

SHAPES = str(scripts.ROOT / "configs/shapes.py")


def faults(config) -> list[str]:
    """Return the lines of the UserError that is raised when a config is resolved."""
    with pytest.raises(UserError) as caught:
        resolve(config)
    return str(caught.value).splitlines()


def test_all_mistakes_of_a_config_are_reported_together():
    config = load_config_file(SHAPES)
    wrong = ("train.batch_size=0", "train.seed=-1", "optimizer.name=adma", "eval.coverage=2.0")
    wrong += ("model.backbone.depth=19", "model.fpn.norm=layer", "data.resize.mode=sqare")
    wrong += ("stages[0].steps=0", "data.sources[0].split=trian", "data.augment.flip=3")
    override(config, [f"--config.{each}" for each in wrong])
    config.attributes = {"age": {"kind": "number"}, "sex": {"kind": "categorical"}}
    expected = (
        ("config.train.batch_size", 0),
        ("config.train.seed", -1),
        ("config.optimizer.name", "'adma'"),
        ("config.eval.coverage", 2.0),
        ("config.model.backbone.depth", 19),
        ("config.model.fpn.norm", "'layer'"),
        ("config.data.resize.mode", "'sqare'"),
        ("config.stages.stage1.steps", 0),
        ("config.data", "'trian'"),
        ("config.data.augment.flip", 3.0),
        ("config.attributes", "'age'", "kind"),
        ("config.attributes", "'sex'", "classes"),
    )
    found = faults(config)
    assert len(found) == len(expected)
    for parts in expected:
        (line,) = [line for line in found if line.startswith(parts[0]) and str(parts[1]) in line]
        check_faults([line], parts)


def test_all_wrong_arguments_and_values_are_reported_together():
    wrong = ("trian.seed=1", "train.x=2", "train.seed=-1")
    done = scripts.call("train", "--config", SHAPES, *(f"--config.{each}" for each in wrong))
    assert done.code == 2
    expected = (("config.trian.seed",), ("config.train.x",), ("config.train.seed", -1))
    check_faults(done.err.splitlines(), *expected)


WRONG = {  # values of wrong types or sizes, which Python may accept
    "optimizer.milestones": (0.5, "a"),
    "model.rpn.anchor_sizes": ((16,), 32),
    "model.rpn.anchor_ratios": (),
    "model.rpn.samples": 0,
    "model.rpn.positive_fraction": 0.001,
    "model.rpn.box_weights": (1.0, 1.0, 1.0, 0.0),
    "model.roi.samples": 0,
    "model.roi.positive_fraction": 1.5,
    "model.roi.sampling_ratio": 0,
    "model.box_head.pool_size": 0,
    "model.mask_head.channels": 0,
    "model.attribute_head.dropout": 1.5,
    "model.detection.max_detections": -1,
    "model.detection.nms_iou": 3.0,
    "model.loss_weights.mask": -1.0,
    "model.fpn.channels": 0,
    "data.resize.max_size": 0,
    "data.resize.canvases": ((0, 64),),
    "data.fractions": (0.5, 0.5),
    "data.augment.noise_strength": -1.0,
    "optimizer.momentum": 2.0,
    "optimizer.epsilon": 0.0,
    "eval.scales": (),
    "eval.iou_threshold": 50.0,
    "init.exclude": "head",
    "train.balancing.window": 0,
}


@pytest.mark.parametrize(("field", "value"), WRONG.items())
def test_a_value_that_cannot_be_used_is_one_line(field, value):
    config = load_config_file(SHAPES)
    *groups, name = field.split(".")
    options = config
    for group in groups:
        options = options[group]
    with options.ignore_type():
        options[name] = value
    check_faults(faults(config), (f"config.{field}",))


def test_the_exits_of_mask_mtl_are_pairs():
    config = get_default("mask_mtl")
    config.model.exits = ("age", 3)
    check_faults(faults(config), ("config.model.exits", "('age', 3)"))


def test_blocks_are_set_by_name_and_by_position():
    config = load_config_file(SHAPES)
    config.data.sources = None
    blocks = {"small": {"format": "shapes"}, "large": {"format": "shapes", "size": 256}}
    override(config, [f"--config.data.sources={blocks}", "--config.stages={'only': {'steps': 5}}"])
    given = ["--config.data.sources.large.weight=2", "--config.data.sources[0].length=7"]
    override(config, [*given, "--config.stages.only.layers=heads", "--config.stages[0].steps=6"])
    small, large = resolve(config).sources.sources
    assert (small["name"], small["length"]) == ("small", 7)
    assert (large["name"], large["size"], large["weight"]) == ("large", 256, 2.0)
    (stage,) = resolve(config).stages
    assert (stage.layers, stage.steps) == ("heads", 6)


def test_a_config_file_can_name_its_blocks(tmp_path):
    path = tmp_path / "named.py"
    text = """
from mtl_jax.config.defaults import get_small

VARIANTS = ("",)


def get_config(variant):
    config = get_small(64)
    config.data.sources = dict(a=dict(format="shapes", size=64), b=dict(format="shapes", seed=9))
    config.stages = dict(heads=dict(layers="heads", steps=3), all=dict(steps=4), order=("all",))
    return config
"""
    path.write_text(text)
    experiment = resolve(load_config_file(str(path)))
    assert [block["name"] for block in experiment.sources.sources] == ["a", "b"]
    assert [(stage.layers, stage.steps) for stage in experiment.stages] == [("all", 4)]
    path.write_text(text.replace('order=("all",)', 'order=("al",)'))
    with refused("config.stages.order", "'al'", "heads", "all"):
        resolve(load_config_file(str(path)))
    path.write_text(text.replace(', order=("all",)', ""))
    with refused("config.stages", "order", "heads", "all"):
        resolve(load_config_file(str(path)))


def test_blocks_without_names_are_named_after_their_formats():
    config = load_config_file(SHAPES)
    names = ["shapes", "shapes-2", "my.own"]
    given = ({"format": "shapes"}, {"format": "shapes"}, {"format": "shapes", "name": "my.own"})
    override(config, [f"--config.data.sources={given}"])
    found = blocks_of(config.data.sources)
    assert list(found) == ["shapes", "shapes_2", "my_own"]
    assert [block["name"] for block in resolve(config).sources.sources] == names
    twice = ({"format": "shapes", "name": "a"}, {"format": "shapes", "name": "a"})
    with refused("config.data.sources", "'a'"):
        override(config, [f"--config.data.sources={twice}"])
    config = load_config_file(SHAPES)
    alike = {"my-own": {"format": "shapes"}, "my_own": {"format": "shapes"}}
    with refused("config.data.sources", "'my-own'", "'my_own'"):
        override(config, [f"--config.data.sources={alike}"])
    with refused("config.stages.order", "('a', 'a')"):
        config = load_config_file(SHAPES)
        override(config, ["--config.stages={'order': ('a', 'a'), 'a': {'steps': 3}}"])


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("data.sources=(5,)", ("config.data.sources[0]", 5)),
        ("data.sources={'a': 5}", ("config.data.sources.a", 5)),
        ("data.sources=coco", ("config.data.sources", "coco")),
        ("stages=(3,)", ("config.stages[0]", 3)),
        ("stages=nothing", ("config.stages", "nothing")),
    ],
)
def test_values_that_are_not_blocks_are_refused(given, parts):
    with refused(*parts):
        override(load_config_file(SHAPES), [f"--config.{given}"])


def test_a_stored_config_resolves_to_the_same_experiment():
    config = load_config_file(str(scripts.ROOT / "configs/mtl_synthetic.py"))
    experiment = resolve(config)
    assert from_stored(json.loads(json.dumps(experiment.config))) == experiment


def test_a_stored_config_with_tuples_of_blocks_is_resolved():
    stored = get_default().to_dict()
    stored["data"]["sources"] = [{"format": "shapes"}, {"format": "shapes", "split": "val"}]
    stored["stages"] = [{"layers": "heads", "steps": 2, "learning_rate": 0.0}]
    experiment = from_stored(stored, ["--config.data.sources[1].weight=0"])
    assert [block["name"] for block in experiment.sources.sources] == ["shapes", "shapes-2"]
    assert experiment.sources.sources[1]["weight"] == 0.0
    assert experiment.steps == 2
