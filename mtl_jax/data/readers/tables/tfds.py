"""Read data sets of TensorFlow Datasets with boxes, such as COCO, VOC and WIDER FACE.

Source: https://www.tensorflow.org/datasets. Records are read in random order, so the data sets must
be prepared as array records.
"""

import logging
import re
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
_OWN = ("bbox", "label", "id", "area", *_CROWDS)  # fields of an object that are not attributes
_CATALOGUE = re.compile(r"\w+(/[\w.-]+)?(:\d+\.\d+\.\d+)?")  # NAME/CONFIG:VERSION
_log = logging.getLogger(__name__)


class TfdsSource(Source):
    """A split of a data set with an image and a sequence of objects with a `bbox` each.

    `path` is NAME[/CONFIG]:SPLIT, such as `coco/2017:train`, or FOLDER:SPLIT for the folder of a
    prepared data set. `data_dir` is the folder of data sets, by default TFDS's own. Classes are the
    objects' `label`; if `categories` is set, only these are kept. Without `label`, all objects have
    the one class that `categories` names. Other fields are attributes, class labels by their names.
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
        self._objects, self._features = _find_objects(builder.info.features, path)
        self._image = _find_image(builder.info.features, path)
        self._records = open_records(builder, split, self._image)
        names = self._features["label"].names if "label" in self._features else None
        known = names or [single_class(categories, f"{path}: its objects have no label")]
        for category in categories:
            if category not in known:
                hint = suggest(category, known) or f"; expected one of {', '.join(known)}"
                raise UserError(f"{path}: has no class {category!r}{hint}")
        chosen = [(i, name) for i, name in enumerate(known) if not categories or name in categories]
        self.categories = tuple(Category(i, name) for i, name in chosen)
        self._labels = {i: place for place, (i, _) in enumerate(chosen, 1)}

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, position: int) -> Record:
        found = self._records[position]
        image = found[self._image]
        name = _text(found.get("image/filename", f"{self.path} {position}"))
        size = headers.displayed_size(image)
        if size is None:
            raise UserError(f"{self.path}: image {name} cannot be read; prepare the data set again")
        height, width = size
        objects = found[self._objects]
        number = found.get("image/id", position)
        return Record(
            image=image,
            width=width,
            height=height,
            image_id=int(number) if isinstance(number, int | np.integer) else _text(number),
            file_name=name,
            instances=tuple(self._instances(objects, height, width, name)),
        )

    def group(self, position: int) -> str:
        """Return the position, since data sets do not annotate groups."""
        return str(position)

    def _instances(self, objects: Mapping[str, Any], height: int, width: int, image: str):
        for i, (y1, x1, y2, x2) in enumerate(np.asarray(objects["bbox"], float).tolist()):
            label = self._labels.get(int(objects["label"][i]) if "label" in objects else 0)
            if label is None:
                continue
            box: Box = (
                max(x1, 0.0) * width,
                max(y1, 0.0) * height,
                min(x2, 1.0) * width,
                min(y2, 1.0) * height,
            )
            if not (box[0] < box[2] and box[1] < box[3]):
                _log.warning("%s: object %d of %s has no area: left out", self.path, i, image)
                continue
            fields = {
                name: _label(self._features[name], values[i])
                for name, values in objects.items()
                if name not in _OWN
            }
            labels, faults = self._reader.read(fields)
            if faults:
                raise UserError(f"{self.path}: object {i} of {image}: {faults[0]}")
            crowd = any(bool(objects[key][i]) for key in _CROWDS if key in objects)
            area = float(objects["area"][i]) if "area" in objects else None
            yield Instance(box, label, crowd=crowd, area=area, id=i + 1, attributes=labels)


def find_builder(path: str, data_dir: str) -> tuple[Any, str]:
    """Return the builder of the data set, and the name of the split, for the `path` of a
    TfdsSource. Raises UserError if there is no such data set.
    """
    import tensorflow_datasets as tfds  # slow to import, and not needed by other formats

    name, _, split = path.rpartition(":")
    if not name or not split:
        raise UserError(f"path must be DATA_SET:SPLIT, such as coco/2017:train, got {path!r}")
    try:
        if Path(name).is_dir():
            return tfds.builder_from_directory(name), split
        return tfds.builder(name, data_dir=data_dir or None), split
    except (tfds.core.DatasetNotFoundError, ValueError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name}: is not a data set of TensorFlow Datasets ({reason})") from None


def _find_objects(features: Any, path: str) -> tuple[str, Any]:
    """Return the name of the sequence of objects with boxes, and the features of an object."""
    import tensorflow_datasets as tfds

    for name, feature in features.items():
        inner: Any = getattr(feature, "feature", None)
        if not isinstance(inner, tfds.features.FeaturesDict) or "bbox" not in inner:
            continue
        if isinstance(inner["bbox"], tfds.features.BBoxFeature):
            return name, inner
    raise UserError(f"{path}: requires objects with a bbox; its features are {', '.join(features)}")


def _find_image(features: Any, path: str) -> str:
    import tensorflow_datasets as tfds

    for name, feature in features.items():
        if isinstance(feature, tfds.features.Image):
            return name
    raise UserError(f"{path}: requires an image; its features are {', '.join(features)}")


def open_records(builder: Any, split: str, image: str) -> Sequence[Any]:
    """Return the records of a split, without decoding the feature `image`. Raises UserError if the
    data set is not prepared as array records, or has no such split.
    """
    import tensorflow_datasets as tfds

    keep: Any = tfds.decode.SkipDecoding()
    try:
        return builder.as_data_source(split, decoders={image: keep})
    except (NotImplementedError, AssertionError, FileNotFoundError, ValueError) as error:
        path = builder.data_path
        name = str(builder.info.full_name).rpartition("/")[0]
        prepare = f"tfds.builder({name!r}%s).download_and_prepare(file_format='array_record')"
        if not path.exists():
            fault = f"is not prepared; run {prepare % ''} in Python"
        elif isinstance(error, NotImplementedError):
            fault = f"must be array records, got another format; run {prepare % ', data_dir=NEW'}"
            fault += " in Python, and set data_dir to NEW"
        else:
            fault = f"has no split {split!r}; expected one of {', '.join(builder.info.splits)}"
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


def code_of(block: Block) -> str:
    """Describe the code that opening a data set runs, "" if it is in TFDS's catalogue.

    TFDS imports the modules that the files of a prepared folder name, and loads the programs of
    data sets in other namespaces. Its names may contain options, such as `data_dir=FOLDER`.
    """
    name = block["path"].rpartition(":")[0]
    if _CATALOGUE.fullmatch(name) and not Path(name).exists() and not block["data_dir"]:
        return ""
    return f"the modules that the data set {block['path']} names"


FORMAT = Format(open_tfds, {"data_dir": "", "categories": ()}, code=code_of)
