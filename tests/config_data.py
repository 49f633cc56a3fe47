"""A data folder for the configs of the repository: a few files of each data set, and generated
files for data sets that are not available.
"""

import glob
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
from data.readers.faces.test_aflw import FACE, POINTS, write
from faces import write_biwi
from real_data import data_set

from mtl_jax.data.synthetic.shapes import ShapesSource
from mtl_jax.data.tools.export import export

# Data sets that are used completely.
WHOLE = ("balloon", "coco_mini")
FACES = ("helen_afw_68", "ytfaces68_udacity", "aflw2000_prnet16", "prima_headpose", "fairface")


def few(name: str, root: Path, count: int) -> None:
    """Copy about `count` evenly spaced images of a data set to `root`.

    Files that differ from an image only in the suffix are copied too; tables are reduced to the
    rows of these images.
    """
    folder = data_set(name)
    images = sorted(folder.rglob("*.jpg"))
    kept = images[:: max(1, len(images) // count)]
    for path in kept:
        target = root / name / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        for beside in path.parent.glob(f"{glob.escape(path.stem)}.*"):
            shutil.copy(beside, target.parent)
    for table in folder.rglob("*.csv"):
        head, *rows = table.read_text().splitlines()
        names = {path.name for path in kept}
        rows = [row for row in rows if Path(row.split(",")[0]).name in names]
        (root / name / table.relative_to(folder)).write_text("\n".join([head, *rows]) + "\n")


def few_of_coco(root: Path, count: int) -> None:
    """Copy about `count` evenly spaced images of coco_mini to `root`, with their annotations."""
    few("coco_mini", root, count)
    names = {path.name for path in (root / "coco_mini").rglob("*.jpg")}
    for path in data_set("coco_mini").rglob("*.json"):
        found = json.loads(path.read_text())
        found["images"] = [x for x in found["images"] if Path(x["file_name"]).name in names]
        ids = {image["id"] for image in found["images"]}
        found["annotations"] = [x for x in found["annotations"] if x["image_id"] in ids]
        target = root / "coco_mini" / path.relative_to(data_set("coco_mini"))
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(found))


def write_aflw(folder: Path, images: int = 8) -> None:
    faces = [
        dict(FACE, picture=f"{i % 3}/image{i:05d}.jpg", points=POINTS, sex="fm"[i % 2])
        for i in range(images)
    ]
    write(folder, faces)
    rng = np.random.default_rng(0)
    for path in sorted((folder / "data/flickr").rglob("*.jpg")):
        shape = cv2.imread(str(path)).shape
        cv2.imwrite(str(path), rng.integers(0, 256, shape, np.uint8))


def write_all(root: Path) -> None:
    """Write every data set that a config reads."""
    for name in FACES:
        few(name, root, count=12)
    few("utkface_crop_part1", root, count=60)
    for name in WHOLE:
        (root / name).symlink_to(data_set(name))
    write_aflw(root / "aflw", images=16)
    write_biwi(root / "biwi")
    export(ShapesSource(8, seed=0), root / "own_data")
