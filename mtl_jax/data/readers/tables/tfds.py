"""Data sets of TensorFlow Datasets that have boxes: COCO, VOC, WIDER FACE, or one's own.

Source: https://www.tensorflow.org/datasets. They are read at random, so that they must be prepared
as array records.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.attributes.base import Attribute
from mtl_jax.data.readers.coco_lists import single_class
from mtl_jax.data.readers.format import Block, Format, Labels
from mtl_jax.data.readers.labels import LabelReader
from mtl_jax.data.records import Box, Category, Instance, Record, Source
from mtl_jax.errors import UserError, suggest
from mtl_jax.images import headers

_CROWDS = ("is_crowd", "is_difficult")  # neither an example nor a counter-example
_OWN = ("bbox", "label", "id", "area", *_CROWDS)  # of a thing; the rest are attributes
_log = logging.getLogger(__name__)


class TfdsSource(Source):
    """A split of a data set with a picture and a sequence of things with a `bbox` each.

    `path` is NAME[/CONFIG]:SPLIT, as `coco/2017:train`, or the folder of a prepared data set and a
    split; `data_dir` is where data sets lie, by default TFDS's own. Classes are the things'
    `label`, of which `categories` are kept; without one all are of the one class that `categories`
    names. What else a thing says are attributes, class labels by their names.
    """

    def __init__(
        self,
        path: str,
        attributes: Sequence[Attribute] = (),
        *,
        data_dir: str = "",
        keys: Mapping[str, Any] | None = None,
        categories: Sequence[str] = (),
    ):
        self.path = path
        self._reader = LabelReader(attributes, keys)
        builder, split = find_builder(path, data_dir)
        self._things, self._features = _find_things(builder.info.features, path)
        self._picture = _find_picture(builder.info.features, path)
        self._records = open_records(builder, split, self._picture)
        names = self._features["label"].names if "label" in self._features else None
        known = names or [single_class(categories, f"{path}: its things have no label")]
        for wanted in categories:
            if wanted not in known:
                hint = suggest(wanted, known) or f"; there are {', '.join(known)}"
                raise UserError(f"{path}: has no class {wanted!r}{hint}")
        chosen = [(i, name) for i, name in enumerate(known) if not categories or name in categories]
        self.categories = tuple(Category(i, name) for i, name in chosen)
        self._labels = {i: place for place, (i, _) in enumerate(chosen, 1)}

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, position: int) -> Record:
        found = self._records[position]
        picture = found[self._picture]
        name = _text(found.get("image/filename", f"{self.path} {position}"))
        size = headers.displayed_size(picture)
        if size is None:
            raise UserError(f"{self.path}: picture {name} cannot be read; prepare the set again")
        height, width = size
        things = found[self._things]
        number = found.get("image/id", position)
        return Record(
            image=picture,
            width=width,
            height=height,
            image_id=int(number) if isinstance(number, int | np.integer) else _text(number),
            file_name=name,
            instances=tuple(self._instances(things, height, width, name)),
        )

    def group(self, position: int) -> str:
        """Name the record: a data set does not say what belongs together."""
        return str(position)

    def _instances(self, things: Mapping[str, Any], height: int, width: int, picture: str):
        for i, (y1, x1, y2, x2) in enumerate(np.asarray(things["bbox"], float).tolist()):
            label = self._labels.get(int(things["label"][i]) if "label" in things else 0)
            if label is None:
                continue
            box: Box = (
                max(x1, 0.0) * width,
                max(y1, 0.0) * height,
                min(x2, 1.0) * width,
                min(y2, 1.0) * height,
            )
            if not (box[0] < box[2] and box[1] < box[3]):
                _log.warning("%s: thing %d of %s has no area: left out", self.path, i, picture)
                continue
            said = {
                name: _label(self._features[name], values[i])
                for name, values in things.items()
                if name not in _OWN
            }
            labels, faults = self._reader.read(said)
            if faults:
                raise UserError(f"{self.path}: thing {i} of {picture}: {faults[0]}")
            crowd = any(bool(things[key][i]) for key in _CROWDS if key in things)
            area = float(things["area"][i]) if "area" in things else None
            yield Instance(box, label, crowd=crowd, area=area, id=i + 1, attributes=labels)


def find_builder(path: str, data_dir: str) -> tuple[Any, str]:
    """Give the data set and the name of the split that a TfdsSource's `path` says."""
    import tensorflow_datasets as tfds  # slow to load, and other formats do without

    name, _, split = path.rpartition(":")
    if not name or not split:
        raise UserError(f"{path!r} is no data set and split; give the like of coco/2017:train")
    try:
        if Path(name).is_dir():
            return tfds.builder_from_directory(name), split
        return tfds.builder(name, data_dir=data_dir or None), split
    except (tfds.core.DatasetNotFoundError, ValueError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name}: no data set of TensorFlow Datasets ({reason})") from None


def _find_things(features: Any, path: str) -> tuple[str, Any]:
    """Name the sequence of things with boxes, and give the features of a thing."""
    import tensorflow_datasets as tfds

    for name, feature in features.items():
        inner: Any = getattr(feature, "feature", None)
        if not isinstance(inner, tfds.features.FeaturesDict) or "bbox" not in inner:
            continue
        if isinstance(inner["bbox"], tfds.features.BBoxFeature):
            return name, inner
    raise UserError(f"{path}: has no things with a bbox; it holds {', '.join(features)}")


def _find_picture(features: Any, path: str) -> str:
    import tensorflow_datasets as tfds

    for name, feature in features.items():
        if isinstance(feature, tfds.features.Image):
            return name
    raise UserError(f"{path}: has no picture; it holds {', '.join(features)}")


def open_records(builder: Any, split: str, picture: str) -> Sequence[Any]:
    """Give a split's records, `picture` not decoded. Raises UserError where it is not prepared so
    that they can be read.
    """
    import tensorflow_datasets as tfds

    keep: Any = tfds.decode.SkipDecoding()
    try:
        return builder.as_data_source(split, decoders={picture: keep})
    except (NotImplementedError, AssertionError, FileNotFoundError, ValueError) as error:
        path = builder.data_path
        name = str(builder.info.full_name).rpartition("/")[0]
        prepare = f"tfds.builder({name!r}%s).download_and_prepare(file_format='array_record')"
        if not path.exists():
            fault = f"not prepared yet; run {prepare % ''} in Python"
        elif isinstance(error, NotImplementedError):
            fault = f"no array records, which are read at random; run {prepare % ', data_dir=NEW'}"
            fault += " in Python, and set data_dir to NEW"
        else:
            fault = f"has no split {split!r}; there are {', '.join(builder.info.splits)}"
        raise UserError(f"{path}: {fault}") from None


def _label(feature: Any, value: Any) -> Any:
    import tensorflow_datasets as tfds

    if isinstance(feature, tfds.features.ClassLabel):
        return feature.int2str(int(value)) if value >= 0 else None
    if isinstance(value, bytes | str):
        return _text(value)
    value = np.asarray(value)
    if value.dtype == bool:
        value = value.astype(int)
    return value.tolist()


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def open_tfds(folder: Path, block: Block, labels: Labels) -> Source:
    del folder
    return TfdsSource(
        block["path"],
        labels.attributes,
        data_dir=block["data_dir"],
        keys=labels.keys,
        categories=block["categories"],
    )


FORMAT = Format(open_tfds, {"data_dir": "", "categories": ()})
