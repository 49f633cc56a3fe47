"""Write drawn scenes as images and a COCO file with their labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.attributes.base import Attribute
from mtl_jax.data.records import Instance, Source
from mtl_jax.data.segmentation import to_mask
from mtl_jax.images.decode import write_png
from mtl_jax.io.atomic import write_json


def export(source: Source, output: Path, attributes: Sequence[Attribute] = ()) -> int:
    """Write OUTPUT/images/NAME.png and OUTPUT/annotations.json; return the number of images.

    Masks are written as COCO's uncompressed RLE, and labels of the declared `attributes` under the
    key `attributes` of an annotation. Raises TypeError if an image is a file rather than pixels.
    """
    folder = output / "images"
    images, annotations = [], []
    for position in range(len(source)):
        record = source[position]
        if not isinstance(record.image, np.ndarray):
            raise TypeError(f"{record.file_name}: expected pixels, got the path of an image")
        name = f"{position:06d}.png"
        write_png(folder / name, record.image)
        images.append(
            {"id": position, "file_name": name, "width": record.width, "height": record.height}
        )
        for instance in record.instances:
            number = len(annotations) + 1
            size = (record.height, record.width)
            annotations.append(_annotation(instance, number, position, size, source, attributes))
    categories = [category._asdict() for category in source.categories]
    data = {"images": images, "annotations": annotations, "categories": categories}
    write_json(output / "annotations.json", data, readable=False)
    return len(images)


def _annotation(
    instance: Instance,
    number: int,
    image_id: int,
    size: tuple[int, int],
    source: Source,
    attributes: Sequence[Attribute],
) -> Mapping[str, Any]:
    x1, y1, x2, y2 = (float(side) for side in instance.box)
    runs = np.asfortranarray(to_mask(instance.segmentation, *size)).ravel(order="F")
    edges = np.flatnonzero(np.diff(runs, prepend=False))
    counts = np.diff(edges, prepend=0, append=runs.size)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": source.categories[instance.label - 1].id,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": float(runs.sum()),
        "iscrowd": int(instance.crowd),
        "segmentation": {"size": list(size), "counts": counts.tolist()},
        "attributes": {
            a.name: a.annotate(*instance.attributes[a.name])
            for a in attributes
            if a.name in instance.attributes
        },
    }
