"""All annotation formats by name. A new format is one file with a FORMAT and one line here."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mtl_jax.data.readers.annotation_tools import coco, labelme, mask_files, via, voc
from mtl_jax.data.readers.faces import (
    aflw,
    aflw2000,
    biwi,
    coco_faces,
    fairface,
    hyperface,
    ibug,
    prima,
    utkface,
    youtube_faces,
)
from mtl_jax.data.readers.format import Block, Format, Labels
from mtl_jax.data.readers.tables import face_csv, python_source, tfds, tfds_faces
from mtl_jax.data.records import Source
from mtl_jax.data.synthetic.head_scenes import SyntheticSource
from mtl_jax.data.synthetic.shapes import ShapesSource


def _drawn(kind: Callable[..., Source]) -> Format:
    """Return the format of a drawn source. The keys of its block are the arguments of `kind`."""

    parameters = inspect.signature(kind).parameters

    def open_source(folder: Path, block: Block, labels: Labels) -> Source:
        del folder
        declared = {"attributes": labels.attributes} if "attributes" in parameters else {}
        return kind(**{name: block[name] for name in options}, **declared)

    options: dict[str, Any] = {"length": 1000, "seed": 0}
    for name, parameter in parameters.items():
        if parameter.default is not inspect.Parameter.empty and name != "attributes":
            options[name] = parameter.default
    return Format(open_source, options)


FORMATS: dict[str, Format] = {
    "coco": coco.FORMAT,
    "via": via.FORMAT,
    "labelme": labelme.FORMAT,
    "masks": mask_files.FORMAT,
    "voc": voc.FORMAT,
    "tfds": tfds.FORMAT,
    "tfds_faces": tfds_faces.FORMAT,
    "utkface": utkface.FORMAT,
    "prima": prima.FORMAT,
    "fairface": fairface.FORMAT,
    "face_csv": face_csv.FORMAT,
    "aflw": aflw.FORMAT,
    "hyperface": hyperface.FORMAT,
    "aflw2000": aflw2000.AFLW2000,
    "300w_lp": aflw2000.W300_LP,
    "ibug": ibug.FORMAT,
    "youtube_faces": youtube_faces.FORMAT,
    "biwi": biwi.FORMAT,
    "coco_faces": coco_faces.FORMAT,
    "python": python_source.FORMAT,
    "synthetic": _drawn(SyntheticSource),
    "shapes": _drawn(ShapesSource),
}
