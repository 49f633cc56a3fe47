"""Faces that a model found on pictures, as `predict.py` writes them: what masks are fitted to."""

from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.attributes.vocabulary import LANDMARKS
from mtl_jax.data.face_masks.fit import Frame, frame_of
from mtl_jax.data.face_points import IBUG
from mtl_jax.data.readers.coco_lists import parse_json
from mtl_jax.errors import UserError

SEEN = 0.5  # the visibility of an ear from which on its place is known
_EARS = [LANDMARKS.index(name) for name in ("left_ear", "right_ear")]


def read_predicted(path: Path, min_score: float) -> dict[str, list[Frame]]:
    """Give the faces of each picture's name in a `predictions.json` whose scores are `min_score` or
    more, the surest first.

    Raises UserError where the file cannot be read, or what it holds has no landmarks that a mask
    can be fitted to.
    """
    found: dict[str, list[Frame]] = {}
    try:
        entries = parse_json(path.read_bytes())
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
            f"{path}: holds no faces with landmarks; give the predictions.json of a run that finds "
            f"AFLW's {len(LANDMARKS)} or iBUG's {IBUG}, as configs/hyperface_mixed.py's does"
        ) from None
    return found


def _points(entry: dict[str, Any]) -> np.ndarray:
    """Give the points `[n, 2]` of an entry's only landmarks, a hidden ear as NaN."""
    (rows,) = (a["points"] for a in entry["attributes"].values() if "points" in a)
    points = np.array(rows, float)
    if len(points) == len(LANDMARKS):
        # Other hidden points are where the face's shape has them; an ear out of sight is anywhere.
        hidden = [ear for ear in _EARS if points[ear, 2] < SEEN]
        points[hidden] = np.nan
    return points[:, :2]
