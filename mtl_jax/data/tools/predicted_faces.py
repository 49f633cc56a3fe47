"""Read the faces that `predict.py` detected, to fit masks to them."""

from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.attributes.vocabulary import LANDMARKS
from mtl_jax.data.face_masks.fit import Frame, frame_of
from mtl_jax.data.face_points import IBUG
from mtl_jax.data.readers.coco_lists import parse_json
from mtl_jax.errors import UserError
from mtl_jax.io.regular import read_regular

SEEN = 0.5  # the minimum visibility of an ear whose position is used
_EARS = [LANDMARKS.index(name) for name in ("left_ear", "right_ear")]


def read_predicted(path: Path, min_score: float) -> dict[str, list[Frame]]:
    """Return the faces by image name in a `predictions.json` whose scores are at least `min_score`,
    in the order of the file.

    Raises UserError if the file cannot be read, or an entry has no landmarks to which a mask can be
    fitted.
    """
    found: dict[str, list[Frame]] = {}
    try:
        entries = parse_json(read_regular(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    try:
        for entry in entries:
            frame = frame_of(_points(entry))
            if entry["score"] >= min_score:
                found.setdefault(entry["file_name"], []).append(frame)
    except (AttributeError, LookupError, TypeError, ValueError):
        raise UserError(
            f"{path}: each entry must be a face with landmarks; use the predictions.json of a run "
            f"that predicts AFLW's {len(LANDMARKS)} or iBUG's {IBUG} points, such as one of "
            "configs/hyperface_mixed.py"
        ) from None
    return found


def _points(entry: dict[str, Any]) -> np.ndarray:
    """Return the points `[n, 2]` of an entry's only landmarks; hidden ears are NaN."""
    (rows,) = (a["points"] for a in entry["attributes"].values() if "points" in a)
    points = np.array(rows, float)
    if len(points) == len(LANDMARKS):
        # The shape of the face determines other hidden points; a hidden ear may be anywhere.
        hidden = [ear for ear in _EARS if points[ear, 2] < SEEN]
        points[hidden] = np.nan
    return points[:, :2]
