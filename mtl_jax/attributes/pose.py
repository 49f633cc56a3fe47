"""An attribute that is up to three angles of a head."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mtl_jax.attributes.base import (
    Attribute,
    Figure,
    Label,
    Labels,
    Scatter,
    mean_errors,
    read_number,
)
from mtl_jax.images.geometry import Geometry, Turn


@dataclass(frozen=True)
class Pose(Attribute):
    """Angles in degrees: yaw > 0 nose to the image's left, pitch > 0 up, roll > 0 clockwise in the
    image.

    A label is a mapping from angle to degrees (angles may be missing) or the angles in the order of
    `angles`. `scale` is the number of degrees that counts as 1 in the loss.
    """

    angles: tuple[str, ...] = ("yaw", "pitch", "roll")
    scale: float = 45.0
    kind: ClassVar[str] = "pose"
    losses: ClassVar[tuple[str, ...]] = ("smooth_l1", "l1", "l2")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.angles or not set(self.angles) <= {"yaw", "pitch", "roll"}:
            raise ValueError(f"attribute {self.name!r}: angles must be among yaw, pitch, roll")
        if len(set(self.angles)) < len(self.angles):
            raise ValueError(f"attribute {self.name!r}: angles must be unique, got {self.angles}")
        if self.scale <= 0:
            raise ValueError(f"attribute {self.name!r}: scale must be above 0, got {self.scale}")

    @property
    def label_size(self) -> int:
        return len(self.angles)

    @property
    def prediction_size(self) -> int:
        return len(self.angles)

    def _read(self, raw: Any) -> tuple[Any, Any]:
        if not isinstance(raw, Mapping):
            if (
                isinstance(raw, str)
                or not isinstance(raw, Sequence)
                or len(raw) != len(self.angles)
            ):
                raise ValueError(
                    f"{self.name} must be {', '.join(self.angles)} in degrees, got {raw!r}"
                )
            raw = dict(zip(self.angles, raw, strict=True))
        if unknown := set(raw) - {"yaw", "pitch", "roll"}:
            raise ValueError(
                f"{self.name}: unknown angles {sorted(unknown)}; expected yaw, pitch, roll"
            )
        found = [raw.get(angle) for angle in self.angles]
        values = [
            0.0 if value is None else read_number(f"{self.name}.{a}", value)
            for a, value in zip(self.angles, found, strict=True)
        ]
        if any(abs(value) > 180 for value in values):
            raise ValueError(f"{self.name} must be degrees within -180 and 180, got {raw!r}")
        return values, [value is not None for value in found]

    def move(self, values: np.ndarray, known: np.ndarray, geometry: Geometry) -> Label:
        return self.move_prediction(values, geometry), known

    def move_prediction(self, prediction: np.ndarray, geometry: Geometry) -> np.ndarray:
        if not geometry.mirrored:
            return prediction
        return prediction * np.array(
            [1.0 if angle == "pitch" else -1.0 for angle in self.angles], np.float32
        )

    def turn(self, values: np.ndarray, turn: Turn) -> np.ndarray:
        added = [turn.degrees if angle == "roll" else 0.0 for angle in self.angles]
        return ((values + added + 180) % 360 - 180).astype(np.float32)

    def annotate(self, values: np.ndarray, known: np.ndarray) -> dict[str, float] | None:
        angles = zip(self.angles, values, known, strict=True)
        found = {angle: round(float(value), 4) for angle, value, is_known in angles if is_known}
        return found or None

    def describe(self, prediction: np.ndarray) -> dict[str, Any]:
        return {
            angle: round(float(value), 3)
            for angle, value in zip(self.angles, prediction, strict=True)
        }

    def caption(self, prediction: np.ndarray) -> str:
        known = ~np.isnan(prediction)  # a label may have missing angles
        angles = zip(np.array(self.angles)[known], prediction[known], strict=True)
        return " ".join(f"{angle} {value:+.0f}" for angle, value in angles)

    @property
    def angle_names(self) -> tuple[str, ...]:
        return self.angles

    def cells(self, described: Mapping[str, Any]) -> dict[str, Any]:
        return {f"{self.name}/{angle}": value for angle, value in described.items()}

    def columns(self, values: np.ndarray, known: np.ndarray) -> Iterator[tuple[str, Any, bool]]:
        for angle, value, is_known in zip(self.angles, values, known, strict=True):
            yield f"{self.name}/{angle}", float(value), bool(is_known)

    def score(
        self, predictions: np.ndarray, labels: Labels, limit: float = 0.0
    ) -> dict[str, float]:
        """Compute `mae` and `std` of each angle in degrees, with errors from 0 to 180."""
        errors = angle_errors(predictions, labels.values)
        return {
            f"{angle}/{name}": value
            for i, angle in enumerate(self.angles)
            for name, value in mean_errors(errors[labels.known[:, i], i]).items()
        }

    def constant(self, labels: Labels, box: np.ndarray) -> np.ndarray:
        """Return the median of each angle."""
        pairs = zip(labels.values.T, labels.known.T, strict=True)
        return np.array([np.median(v[known]) if known.any() else 0.0 for v, known in pairs])

    def figures(self, predictions: np.ndarray, labels: Labels) -> Iterator[tuple[str, Figure]]:
        for i, angle in enumerate(self.angles):
            rows = labels.known[:, i]
            truth, predicted = labels.values[rows, i], predictions[rows, i]
            yield f"{self.name}.{angle}", Scatter(truth, predicted, angle_errors(predicted, truth))

    def angles_of(self, prediction: np.ndarray) -> dict[str, float] | None:
        if np.isnan(prediction).all():
            return None
        # An angle without annotation is drawn as 0.
        return dict(zip(self.angles, np.nan_to_num(prediction).tolist(), strict=True))


def angle_errors(predictions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the absolute differences of angles, from 0 to 180 degrees."""
    return np.abs((predictions - truth + 180) % 360 - 180)
