"""Read the labels of declared attributes from the keys of annotations, with scales, offsets and
names of classes.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from mtl_jax.attributes.base import Attribute, Label, spellings
from mtl_jax.data.face_points import far_point
from mtl_jax.errors import UserError
from mtl_jax.images.geometry import pixel_centres


class Key(NamedTuple):
    """A label `scale * annotation[name] + offset`, or the class to which `classes` maps the
    annotated one; '' maps to a missing label.
    """

    name: str
    scale: float = 1.0
    offset: float = 0.0
    classes: Mapping[str, str] = {}


class Preset(NamedTuple):
    """Names of a data set for angles and classes."""

    angles: Mapping[str, Key] = {}  # for every pose
    classes: Mapping[str, str] = {}  # for attributes that do not declare the annotated class


PRESETS: dict[str, Preset] = {
    # Its two fields run from 0 to 180 degrees with 90 in the middle, and their names are swapped.
    "mtl_mrcnn": Preset(angles={"yaw": Key("Pitch", -1, 90), "pitch": Key("Yaw", -1, 90)}),
    # Maps FairFace's races to UTKFace's, whose Others include Hispanic, Latino and Middle Eastern.
    "utkface": Preset(
        classes={
            "East Asian": "Asian",
            "Southeast Asian": "Asian",
            "Latino_Hispanic": "Others",
            "Middle Eastern": "Others",
        }
    ),
}


class LabelReader:
    """Reads the labels of the declared attributes from annotations.

    `keys` maps the name of an attribute to a key, to (key, scale, offset), or to (key, classes),
    where classes maps annotated names to declared ones. The angles of a pose are mapped one by one,
    as `{"head.yaw": ...}` or `{"head": {"yaw": ...}}`. The default key of an attribute is its name.
    `preset` is one of PRESETS.

    A text, number or boolean that spells the name of a class is that class. Other text is read as a
    number, empty text as a missing label, and true as 1. Raises UserError if `keys` names an
    attribute or an angle that is not declared, or the preset is unknown.
    """

    def __init__(
        self,
        attributes: Sequence[Attribute],
        keys: Mapping[str, Any] | None = None,
        preset: str = "",
    ):
        self.attributes = tuple(attributes)
        if preset and preset not in PRESETS:
            raise UserError(f"attribute_preset must be one of {', '.join(PRESETS)}, got {preset!r}")
        angles, self._classes = PRESETS[preset] if preset else Preset()
        self._keys: dict[str, Key] = {a.name: Key(a.name) for a in attributes}
        self._angles: dict[str, dict[str, Key]] = {
            a.name: {angle: angles[angle] for angle in a.angle_names if angle in angles}
            for a in attributes
            if angles and a.angle_names
        }
        for name, value in (keys or {}).items():
            self._add(name, value)

    @property
    def key_names(self) -> set[str]:
        """Names of the annotation keys that are read."""
        angles = [key for keys in self._angles.values() for key in keys.values()]
        return {key.name for key in [*self._keys.values(), *angles]}

    def _add(self, name: str, value: Any) -> None:
        name, _, angle = name.partition(".")
        attribute = next((a for a in self.attributes if a.name == name), None)
        if attribute is None:
            known = ", ".join(self._keys) or "nothing"
            raise UserError(
                f"attribute_keys: {name!r} is not declared in config.attributes, which declares "
                f"{known}"
            )
        values = {angle: value} if angle else value
        if not isinstance(values, Mapping):
            self._keys[name] = _key(name, values)
            self._angles.pop(name, None)  # replaces the angles of a preset
            return
        angles = attribute.angle_names
        for part, key in values.items():
            if part not in angles:
                raise UserError(f"attribute_keys: {name}.{part} is not an angle of {name}")
            self._angles.setdefault(name, {})[part] = _key(f"{name}.{part}", key)

    def read(
        self,
        annotation: Mapping[str, Any],
        keypoint_names: Sequence[str] | None = None,
        size: tuple[int, int] | None = None,
    ) -> tuple[dict[str, Label], list[str]]:
        """Return the valid labels of an annotation, parsed, by attribute, and the faults of the
        others.

        Points far outside the image are faults if its `size` (width, height) is passed. A key is
        looked up in the annotation, then in its `attributes` object. If `keypoint_names` is passed,
        the annotation is COCO's: its `keypoints` are selected by these names of its category, if it
        has any, and converted from pixel indices to coordinates.
        """
        labels, faults = {}, []
        for attribute in self.attributes:
            try:
                raw = self._raw(attribute, annotation, keypoint_names)
                values, known = attribute.parse(raw)
                if size is not None and attribute.point_names:
                    _check_near(attribute, values, known, *size)
            except (ValueError, TypeError, OverflowError) as error:
                faults.append(f"attribute {attribute.name}: {error}")
                continue
            if raw is not None:
                labels[attribute.name] = values, known
        return labels, faults

    def _raw(
        self,
        attribute: Attribute,
        annotation: Mapping[str, Any],
        keypoint_names: Sequence[str] | None,
    ) -> Any:
        if attribute.name in self._angles:
            found = {
                angle: _scaled(self._find(attribute, annotation, key), key)
                for angle, key in self._angles[attribute.name].items()
            }
            return None if all(value is None for value in found.values()) else found
        key = self._keys[attribute.name]
        raw = self._find(attribute, annotation, key)
        if attribute.point_names and key.name == "keypoints":
            if keypoint_names:
                raw = _pick_points(raw, attribute.point_names, keypoint_names)
            if keypoint_names or (keypoint_names is not None and key.name in annotation):
                raw = _centred(raw)
        if attribute.point_names and _is_list(raw):
            return _scaled_points(raw, key)
        scaled = _scaled(raw, key)
        # A negative scale swaps the ends of an interval; the lower end must stay first.
        turned = attribute.is_number and _is_list(raw) and key.scale < 0
        return scaled[::-1] if turned else scaled

    def _find(self, attribute: Attribute, annotation: Mapping[str, Any], key: Key) -> Any:
        raw = _find(annotation, key.name)
        tables = [key.classes]
        if attribute.class_names:
            tables += [{name: name for name in attribute.class_names}, self._classes]
        for table, name in product(tables, spellings(raw)):
            if name in table:
                return table[name] or None
        if isinstance(raw, bool):
            return int(raw)  # the index of "no" or "yes"
        return _number(raw) if isinstance(raw, str) else raw


def _check_near(
    attribute: Attribute, values: np.ndarray, known: np.ndarray, width: int, height: int
) -> None:
    rows = np.flatnonzero(known.reshape(-1, 3)[:, 0])
    names = [attribute.point_names[row] for row in rows]
    if far := far_point(values.reshape(-1, 3)[rows, :2], width, height, names):
        raise ValueError(far)


def _key(name: str, value: Any) -> Key:
    parts = [value] if isinstance(value, str) else list(value) if _is_list(value) else []
    if len(parts) == 2 and isinstance(parts[0], str) and isinstance(parts[1], Mapping):
        # Keys are spelled as in JSON, where they are strings: the run's config is stored as JSON.
        classes = {text: given for key, given in parts[1].items() for text in spellings(key)[:1]}
        return Key(parts[0], classes=classes)
    numbers = all(isinstance(part, int | float) for part in parts[1:])
    if not 1 <= len(parts) <= 3 or not isinstance(parts[0], str) or not numbers:
        raise UserError(
            f"attribute_keys: {name} must be (key, scale, offset) or (key, classes), got {value!r}"
        )
    scale, offset = (*map(float, parts[1:]), *(1.0, 0.0)[len(parts) - 1 :])
    return Key(parts[0], scale, offset)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _find(annotation: Mapping[str, Any], key: str) -> Any:
    if key in annotation:
        return annotation[key]
    inner = annotation.get("attributes")
    return inner.get(key) if isinstance(inner, Mapping) else None


def _number(text: str) -> Any:
    """Return text as a number, empty text as None, and other text stripped."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip() or None


def _scaled_points(raw: Sequence[Any], key: Key) -> Any:
    """Apply scale and offset to the coordinates of points, as rows or as COCO's flat list."""
    if key.scale == 1 and key.offset == 0:
        return raw
    rows = raw if not raw or _is_list(raw[0]) or raw[0] is None else _rows(raw)
    return [row and [*(_scaled(v, key) for v in row[:2]), *row[2:]] for row in rows]


def _scaled(raw: Any, key: Key) -> Any:
    """Apply scale and offset to a number, or to each number of an interval or a pose."""
    if raw is None or (key.scale == 1 and key.offset == 0):
        return raw
    if isinstance(raw, Mapping):
        return {name: _scaled(value, key) for name, value in raw.items()}
    if _is_list(raw):
        return [_scaled(value, key) for value in raw]
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise ValueError(f"{key.name} must be a number, got {raw!r}")
    return key.scale * raw + key.offset


def _centred(raw: Any) -> Any:
    """Convert COCO's keypoints, pixel indices as rows or as a flat list, to coordinates.

    Source: detectron2's `load_coco_json`.
    """
    if not isinstance(raw, list) or not raw:
        return raw
    rows = raw if any(row is None or _is_list(row) for row in raw) else _rows(raw)
    try:
        return [row and [*pixel_centres(row[:2], first=0).tolist(), *row[2:]] for row in rows]
    except (TypeError, ValueError):
        return raw  # the attribute's parser reports it


def _rows(flat: Sequence[Any]) -> list[list[Any]]:
    return [list(flat[i : i + 3]) for i in range(0, len(flat), 3)]


def _pick_points(raw: Any, points: Sequence[str], names: Sequence[str]) -> Any:
    """Select the named points from COCO's flat x, y, v list, in the order of `points`."""
    if not isinstance(raw, list) or len(raw) != 3 * len(names):
        return raw  # missing, or invalid, which the attribute's parser reports
    rows = dict(zip(names, _rows(raw), strict=True))
    if not set(points) & set(names):
        raise ValueError(f"none of its points is a keypoint of the category ({', '.join(names)})")
    return [rows.get(point) for point in points]
