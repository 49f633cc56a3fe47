"""The table of attribute kinds, and construction of the attributes that a config declares."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from mtl_jax.attributes.base import Attribute
from mtl_jax.attributes.categorical import Categorical
from mtl_jax.attributes.continuous import Continuous
from mtl_jax.attributes.landmarks import Landmarks
from mtl_jax.attributes.ordinal import Ordinal
from mtl_jax.attributes.pose import Pose
from mtl_jax.errors import suggest, wrong_type

KINDS: dict[str, type[Attribute]] = {
    cls.kind: cls for cls in (Categorical, Ordinal, Continuous, Pose, Landmarks)
}


def from_config(declared: Mapping[str, Mapping[str, Any]]) -> tuple[Attribute, ...]:
    """Build the attributes that a config declares. Raises ValueError that names the attribute and
    the mistake.
    """
    attributes = []
    for name, options in declared.items():
        options = dict(options)
        kind_name = options.pop("kind", "")
        kind = KINDS.get(kind_name)
        if kind is None:
            known = f"{', '.join(KINDS)}{suggest(kind_name, KINDS)}"
            raise ValueError(f"attribute {name!r}: kind must be one of {known}")
        allowed = {field.name for field in fields(kind)} - {"name"}
        if unknown := set(options) - allowed:
            wrong, right = ", ".join(sorted(unknown)), ", ".join(sorted(allowed))
            near = suggest(min(unknown), allowed)
            raise ValueError(f"attribute {name!r}: unknown option {wrong}; expected {right}{near}")
        for field in fields(kind):
            value = options.get(field.name, field.default)
            if field.name != "name" and (expected := wrong_type(value, field.type)):
                raise ValueError(
                    f"attribute {name!r}: {field.name} must be {expected}, got {value!r}"
                )
        attributes.append(kind(name=name, **options))
    return tuple(attributes)


def with_defaults(declared: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return declarations with every option of their kind; those of unknown kinds are unchanged."""
    result = {}
    for name, options in declared.items():
        kind = KINDS.get(options.get("kind", ""))
        options_of_kind = {field.name: field.default for field in fields(kind)} if kind else {}
        options_of_kind.pop("name", None)
        result[name] = {**options_of_kind, **options}
    return result
