"""Every field of a config is an option of some part, and every option is read."""

from dataclasses import fields, is_dataclass

import scripts

from mtl_jax.data.options import AugmentOptions, DataOptions
from mtl_jax.data.sources import SourceOptions
from mtl_jax.defaults import InitOptions, ValidationOptions, get_default
from mtl_jax.evals.options import EvalOptions
from mtl_jax.models.options import LossWeights, MaskRCNNOptions, ViewOptions
from mtl_jax.training.loop import LoopOptions
from mtl_jax.training.optimizer import OptimizerOptions
from mtl_jax.training.stages import Stage

DEFAULTS = {
    "model": (MaskRCNNOptions,),
    "data": (SourceOptions, DataOptions),
    "init": (InitOptions,),
    "optimizer": (OptimizerOptions,),
    "train": (LoopOptions,),
    "eval": (ValidationOptions, EvalOptions, ViewOptions),
}


def test_every_field_of_the_default_config_is_an_option_of_some_part():
    config = get_default()
    assert set(config) == {*DEFAULTS, "attributes", "stages"}
    for group, kinds in DEFAULTS.items():
        compare(config[group], kinds, group)
    assert config.stages == (vars(Stage()),)


def compare(group, kinds, name):
    options = [field for kind in kinds for field in fields(kind)]
    assert set(group) == {field.name for field in options}, name
    for field in options:
        if is_dataclass(field.type):
            compare(group[field.name], (field.type,), f"{name}.{field.name}")


def test_every_option_is_read_by_something():
    """An option that no line of the package reads by its name would be silently ignored."""
    text = "\n".join(path.read_text() for path in (scripts.ROOT / "mtl_jax").rglob("*.py"))
    unread = [name for name in set(option_names()) if f".{name}" not in text]
    # Looked up by the name of a change to the picture, and of a term of the loss.
    looked_up = {field.name for kind in (AugmentOptions, LossWeights) for field in fields(kind)}
    assert set(unread) <= looked_up


def option_names():
    groups = [kind for kinds in DEFAULTS.values() for kind in kinds] + [Stage]
    while groups:
        for field in fields(groups.pop()):
            if is_dataclass(field.type):
                groups.append(field.type)
            else:
                yield field.name
