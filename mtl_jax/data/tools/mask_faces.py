"""Copy a folder of faces with masks drawn on them."""

import contextlib
import csv
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mtl_jax.data.face_masks.apply import face_rng
from mtl_jax.data.face_masks.fit import Frame, chip_frame, frame_of
from mtl_jax.data.face_masks.render import Masked, Wearing, draw_wearing, put_on
from mtl_jax.data.face_points import are_far, check_near
from mtl_jax.data.readers.faces.aflw2000 import read_ibug
from mtl_jax.data.readers.faces.ibug import read_points
from mtl_jax.data.readers.folders import list_images
from mtl_jax.data.tools.predicted_faces import read_predicted
from mtl_jax.errors import UserError
from mtl_jax.images.decode import decode, image_size, write_png
from mtl_jax.io.atomic import write_json, write_whole
from mtl_jax.io.csv_table import TableWriter, harmless

SHEET, CELL, ROW = 48, 128, 8  # faces on a contact sheet, their side in pixels, faces in a row
_MIN_SIDE = 16  # pixels; the face of a smaller chip is not visible


class Written(NamedTuple):
    images: int
    faults: tuple[str, ...]  # a line for each image that was left out


def write_masked(
    folder: Path,
    output: Path,
    seed: int = 0,
    share: float = 1.0,
    faces: Path | None = None,
    min_score: float = 0.9,
) -> Written:
    """Write the images below a folder, with masks, to OUTPUT/images.

    Images are written as PNG files under their names, and the files beside them (.pts, .mat,
    FairFace's tables) are copied. The outlines of the masks are written to OUTPUT/outlines, the
    masks of each image to OUTPUT/masks.json, and a sample to OUTPUT/sheet.png.

    `faces` is the predictions.json of `predict.py` on the same folder; its faces with scores of at
    least `min_score` are masked. Without it, an image has one face, located by iBUG's points in a
    .pts or .mat file (as in AFLW2000) beside the image. An image without points is an aligned chip
    if it and most other images without points are square. A fraction `share` of the images is
    masked, and the others are written unchanged. The masks of an image depend on `seed` and its
    name. Raises UserError if no image can be used, or `output` is not empty or inside `folder`.
    """
    names = list_images(folder) if folder.is_dir() else []
    if not names:
        raise UserError(f"{folder}: contains no images; --input must be a folder of faces")
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output}: is not empty; choose another --output")
    if output.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{output}: must not be inside --input; choose another --output")
    found = None if faces is None else read_predicted(faces, min_score)
    worn, faults, shown = {}, [], []
    written: dict[Path, str] = {}  # each file, and the name of its image
    has_chips = found is None and _has_chips([folder / name for name in names])
    for name in names:
        try:
            image = decode(folder / name)
            rng = face_rng(seed, name)
            bare = rng.random() >= share
            if found is None:
                frames = [_read_frame(folder / name, image, has_chips, rng)]
            else:
                frames = [face for face in found.get(name, []) if _lies_on(face, image)]
                if not frames:
                    raise ValueError(
                        f"{faces} has no face in this image with a score of {min_score} or more"
                    )
        except (ValueError, OSError) as error:
            faults.append(f"{folder / name}: {error}")
            continue
        wearings = [] if bare else [draw_wearing(rng) for _ in frames]
        done = _put_on_all(image, frames, wearings)
        file = Path(name).with_suffix(".png")
        if file in written:  # by an image that differs in its extension alone
            file = Path(f"{name}.png")
        written[file] = name
        write_png(output / "images" / file, done.image)
        write_png(output / "outlines" / file, done.outline * np.uint8(255))
        for beside in ((folder / name).with_suffix(suffix) for suffix in (".pts", ".mat")):
            if beside.is_file():
                shutil.copy(beside, (output / "images" / file).with_suffix(beside.suffix))
        worn[name] = [
            {"kind": each.kind, "number": each.number, **each.fit._asdict()} for each in wearings
        ]
        shown += [_cell(done.image, frame) for frame in frames[: SHEET - len(shown)]]
    if not worn:
        raise UserError(f"{folder}: none of its {len(names)} images can be used; {faults[0]}")
    renamed = {name: file.as_posix() for file, name in written.items()}
    for table in sorted(folder.glob("fairface*.csv")):
        _rename(table, output / "images" / table.name, renamed)
    write_json(output / "masks.json", worn)
    blank = np.zeros((CELL, CELL, 3), np.uint8)
    shown += [blank] * (-len(shown) % ROW)
    rows = [np.hstack(shown[i : i + ROW]) for i in range(0, len(shown), ROW)]
    write_png(output / "sheet.png", np.vstack(rows))
    return Written(len(worn), tuple(faults))


def _has_chips(images: list[Path]) -> bool:
    """Return whether most of the images without points are square."""
    square = []
    for path in images:
        if _points_beside(path) is None:
            with contextlib.suppress(ValueError, OSError):  # reported when the image is read
                height, width = image_size(path)
                square.append(height == width)
    return 2 * sum(square) > len(square)


def _read_frame(path: Path, image: np.ndarray, has_chips: bool, rng: np.random.Generator) -> Frame:
    height, width = image.shape[:2]
    beside = _points_beside(path)
    if beside is None:
        if height != width or not has_chips:
            reason = "chips are square" if height != width else "most of its folder is not square"
            raise ValueError(
                f"is {width} x {height} and not an aligned chip ({reason}), and has no points "
                "beside it; detect its faces with predict.py and pass them with --faces"
            )
        if height < _MIN_SIDE:
            raise ValueError(
                f"is {width} x {height}; a chip must have sides of at least {_MIN_SIDE} pixels"
            )
        return chip_frame(height, width, rng)
    points = read_points(beside) if beside.suffix == ".pts" else read_ibug(beside)
    check_near(points, width, height)
    return frame_of(points)


def _points_beside(path: Path) -> Path | None:
    beside = (path.with_suffix(".pts"), path.with_suffix(".mat"))
    return next((file for file in beside if file.is_file()), None)


def _lies_on(face: Frame, image: np.ndarray) -> bool:
    return not are_far(np.stack(face[:5]), image.shape[1], image.shape[0]).any()


def _put_on_all(image: np.ndarray, frames: list[Frame], wearings: list[Wearing]) -> Masked:
    done = Masked(image, np.zeros(image.shape[:2], bool))
    for frame, wearing in zip(frames, wearings, strict=bool(wearings)):
        put = put_on(done.image, frame, wearing)
        done = Masked(put.image, done.outline | put.outline)
    return done


def _rename(table: Path, output: Path, names: Mapping[str, str]) -> None:
    """Write the header of a table, and its rows that begin with a key of `names`, renamed."""
    odd = "surrogateescape"  # bytes that are not UTF-8 are kept
    with table.open(newline="", encoding="utf-8-sig", errors=odd) as file:
        rows = list(csv.reader(file))
    kept = [[_as_path(names[row[0]]), *row[1:]] for row in rows if row and row[0] in names]
    with (
        write_whole(output) as draft,
        draft.open("w", newline="", encoding="utf-8", errors=odd) as file,
    ):
        writer = TableWriter(file)
        for row in (*rows[:1], *kept):
            writer.write_row(row)


def _as_path(name: str) -> str:
    """Return the path of an image in a form that a table contains unchanged."""
    return name if harmless(name) == name else f"./{name}"


def _cell(image: np.ndarray, frame: Frame) -> np.ndarray:
    """Crop a face for the contact sheet, `[CELL, CELL, 3]`."""
    x, y = (frame.tip + frame.bridge) / 2
    half = 1.1 * frame.width
    height, width = image.shape[:2]
    (y1, y2), (x1, x2) = _span(y, half, height), _span(x, half, width)
    part = image[y1:y2, x1:x2]
    return cv2.resize(part, (CELL, CELL), interpolation=cv2.INTER_AREA)


def _span(middle: float, half: float, size: int) -> tuple[int, int]:
    """Return the first pixel, and the one after the last, around a position in the image; the range
    has at least one pixel.
    """
    first = min(max(0, int(middle - half)), size - 1)
    return first, max(first + 1, int(middle + half) + 1)
