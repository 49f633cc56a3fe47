"""Read Prima's head poses (Pointing'04): pan and tilt from the file name, the face's box from a
text file beside the image.

Source: Gourier, Hall, Crowley, Estimating face orientation from robust detection of salient facial
features, Pointing 2004. As in this library, pan > 0 turns the nose to the image's left, and tilt >
0 turns it up. Angles are nominal: the persons looked at marks on a wall.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mtl_jax.attributes.base import Attribute
from mtl_jax.data.readers import folders
from mtl_jax.data.readers.annotation_tools.coco_shapes import SLACK
from mtl_jax.data.readers.format import Block, Format, Labels
from mtl_jax.data.readers.labels import LabelReader
from mtl_jax.data.records import Box, Category, Record, Source
from mtl_jax.io.regular import read_regular

_NAME = re.compile(r"person(\d\d)(\d)(\d\d)([+-]\d+)([+-]\d+)\.jpg", re.IGNORECASE)
_EXPECTED = "file names person[PP][S][NN][tilt][pan].jpg, each with a .txt file"


class _Image(NamedTuple):
    found: folders.Found
    box: Box
    labels: dict[str, Any]
    person: str


class PrimaSource(Source):
    """One record for each image below a folder, with one head. The images of a person stay in one
    split.

    Labels: `head`, a pose of `yaw` (pan) and `pitch` (tilt) in degrees. At tilt +-90, the nominal
    direction is the axis of pan, and only pan 0 exists. This yaw is read as published, or is a
    missing label with `vertical_yaw=False`.
    """

    categories = (Category(1, "head"),)

    def __init__(
        self,
        folder: str | Path,
        attributes: Sequence[Attribute] = (),
        *,
        keys: Mapping[str, Any] | None = None,
        vertical_yaw: bool = True,
        on_error: str = "stop",
    ):
        self.folder = self.image_folder = Path(folder)
        self._vertical_yaw = vertical_yaw
        self._reader = LabelReader(attributes, keys)
        self._images, self.skipped = folders.read_folder(
            self.folder, self._read, _EXPECTED, on_error
        )
        labels = [(image.found.name, image.labels) for image in self._images]
        self.skipped += folders.check_labels(self.folder, labels, self._reader, on_error)

    def _read(self, name: str) -> _Image:
        match = _NAME.fullmatch(name.rpartition("/")[2])
        if match is None:
            raise ValueError("must be named person[PP][S][NN][tilt][pan].jpg; rename it")
        person, _, _, tilt, pan = match.groups()
        if abs(int(tilt)) > 90 or abs(int(pan)) > 90:
            raise ValueError(f"tilt {tilt} or pan {pan} is beyond 90 degrees; rename it")
        path = self.folder / name
        height, width = folders.look_at(path)
        pose = {"yaw": float(pan), "pitch": float(tilt)}
        if abs(int(tilt)) == 90 and not self._vertical_yaw:
            del pose["yaw"]
        box = _read_box(path.with_suffix(".txt"), path.name, width, height)
        return _Image(folders.Found(name, height, width), box, {"head": pose}, f"person{person}")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, position: int) -> Record:
        found, box, labels, _ = self._images[position]
        return folders.face_record(self.folder, found, position, labels, self._reader, box)

    def key(self, position: int) -> str:
        """Return the image's path below the folder."""
        return self._images[position].found.name

    def group(self, position: int) -> str:
        """Return the person."""
        return self._images[position].person


def _read_box(path: Path, image: str, width: int, height: int) -> Box:
    """Read a box, stored as x centre, y centre, width and height, and clip it to the image.

    Raises ValueError if the file is missing or invalid.
    """
    try:
        lines = read_regular(path).decode("utf-8", "replace").split()
        name, kind, *numbers = lines
        x, y, w, h = (float(number) for number in numbers)
    except OSError as error:
        raise ValueError(f"its {path.name} cannot be read ({error.strerror})") from None
    except ValueError:
        raise ValueError(f"its {path.name} must contain a name, Face and four numbers") from None
    if (name, kind) != (image, "Face"):
        raise ValueError(f"its {path.name} must begin with its name and Face, got {name} {kind}")
    box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    outside = max(-box[0], -box[1], box[2] - width, box[3] - height)
    if not (w > 0 and h > 0 and outside <= SLACK):  # also refuses NaN
        raise ValueError(f"the box in its {path.name} is empty or extends beyond the image")
    return max(box[0], 0.0), max(box[1], 0.0), min(box[2], width), min(box[3], height)


def open_prima(folder: Path, block: Block, labels: Labels) -> Source:
    return PrimaSource(
        folder,
        labels.attributes,
        keys=labels.keys,
        vertical_yaw=block["vertical_yaw"],
        on_error=labels.on_error,
    )


FORMAT = Format(
    open_prima,
    {"vertical_yaw": True},
    ("prima", "prima_headpose", "HeadPoseImageDatabase"),
    "http://www-prima.inrialpes.fr/perso/Gourier/Faces/HPDatabase.html (any purpose, cite "
    "Gourier, Hall, Crowley 2004)",
    "yaw and pitch of the marks that 15 volunteers were asked to look at",
)
