"""Write a folder of faces again, with masks."""

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
from mtl_jax.data.readers.folders import list_pictures
from mtl_jax.data.tools.predicted_faces import read_predicted
from mtl_jax.errors import UserError
from mtl_jax.images.decode import decode, image_size, write_png
from mtl_jax.io.atomic import write_json, write_whole

SHEET, CELL, ROW = 48, 128, 8  # faces on a contact sheet, their side, and how many in a row
_LEAST_SIDE = 16  # pixels of a chip on which there is a face to see


class Written(NamedTuple):
    pictures: int
    faults: tuple[str, ...]  # a line for each picture that was left out


def write_masked(
    folder: Path,
    output: Path,
    seed: int = 0,
    share: float = 1.0,
    faces: Path | None = None,
    min_score: float = 0.9,
) -> Written:
    """Write the pictures below a folder, masked, under their names to OUTPUT/images, with what lies
    beside them (.pts, .mat, FairFace's tables), the masks' outlines to OUTPUT/outlines, the masks
    of each to OUTPUT/masks.json, and OUTPUT/sheet.png to look at.

    The faces are those that `faces`, the predictions.json of `predict.py` on the same folder, has
    with a score of `min_score` or more. Without it a picture has one: by iBUG's points in a .pts
    file beside it, or a .mat as AFLW2000's; without one the picture is an aligned chip, if it and
    most of the others without one are square. Pictures that stay bare are written unchanged. The
    masks of a picture depend on `seed` and its name. Raises UserError where there is nothing to do.
    """
    names = list_pictures(folder) if folder.is_dir() else []
    if not names:
        raise UserError(f"{folder}: holds no picture; give a folder of faces as --input")
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output}: is not empty; use another --output")
    if output.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{output}: lies in --input, whose pictures it would join; use another")
    found = None if faces is None else read_predicted(faces, min_score)
    worn, faults, shown = {}, [], []
    written: dict[Path, str] = {}  # each file, and the name of its picture
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
                    raise ValueError(f"{faces} has no face on it of score {min_score} or more")
        except (ValueError, OSError) as error:
            faults.append(f"{folder / name}: {error}")
            continue
        wearings = [] if bare else [draw_wearing(rng) for _ in frames]
        done = _put_on_all(image, frames, wearings)
        file = Path(name).with_suffix(".png")
        if file in written:  # of another ending
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
        raise UserError(f"{folder}: none of its {len(names)} pictures can be used; {faults[0]}")
    renamed = {name: file.as_posix() for file, name in written.items()}
    for table in sorted(folder.glob("fairface*.csv")):
        _rename(table, output / "images" / table.name, renamed)
    write_json(output / "masks.json", worn)
    blank = np.zeros((CELL, CELL, 3), np.uint8)
    shown += [blank] * (-len(shown) % ROW)
    rows = [np.hstack(shown[i : i + ROW]) for i in range(0, len(shown), ROW)]
    write_png(output / "sheet.png", np.vstack(rows))
    return Written(len(worn), tuple(faults))


def _has_chips(pictures: list[Path]) -> bool:
    """Say whether most of the pictures without points are square."""
    square = []
    for path in pictures:
        if _points_beside(path) is None:
            with contextlib.suppress(ValueError, OSError):  # named when it is read
                height, width = image_size(path)
                square.append(height == width)
    return 2 * sum(square) > len(square)


def _read_frame(path: Path, image: np.ndarray, has_chips: bool, rng: np.random.Generator) -> Frame:
    height, width = image.shape[:2]
    beside = _points_beside(path)
    if beside is None:
        if height != width or not has_chips:
            square = "these are square" if height != width else "most of its folder is not square"
            raise ValueError(
                f"is {width} x {height} and no aligned chip, for {square}, and has no points "
                "beside it; find its faces (--faces)"
            )
        if height < _LEAST_SIDE:
            raise ValueError(f"is {width} x {height}; on less than {_LEAST_SIDE} there is no face")
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
    """Write the rows of a table whose first cell is one of `names`, with the other name."""
    odd = "surrogateescape"  # what else the table says stays as it is
    with table.open(newline="", encoding="utf-8-sig", errors=odd) as file:
        rows = list(csv.reader(file))
    kept = [[names[row[0]], *row[1:]] for row in rows if row and row[0] in names]
    with (
        write_whole(output) as draft,
        draft.open("w", newline="", encoding="utf-8", errors=odd) as file,
    ):
        csv.writer(file).writerows([*rows[:1], *kept])


def _cell(image: np.ndarray, frame: Frame) -> np.ndarray:
    """Cut a face out for the contact sheet."""
    x, y = (frame.tip + frame.bridge) / 2
    half = 1.1 * frame.width
    height, width = image.shape[:2]
    (y1, y2), (x1, x2) = _span(y, half, height), _span(x, half, width)
    part = image[y1:y2, x1:x2]
    return cv2.resize(part, (CELL, CELL), interpolation=cv2.INTER_AREA)


def _span(middle: float, half: float, size: int) -> tuple[int, int]:
    """Give the pixels around a place that lie in the picture, at least one."""
    first = min(max(0, int(middle - half)), size - 1)
    return first, max(first + 1, int(middle + half) + 1)
