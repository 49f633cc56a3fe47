"""Errors of landmarks by yaw, and cumulative error curves of landmarks and pose.

Source: Ranjan et al., HyperFace, 2016 (https://arxiv.org/abs/1603.01249), section 5: NME over
visible points, for yaws within [0, 30], (30, 60] and (60, 90] degrees.
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from mtl_jax.attributes.base import Attribute
from mtl_jax.attributes.landmarks import Landmarks, first_landmarks
from mtl_jax.attributes.pose import angle_errors
from mtl_jax.data.records import Instance, Record
from mtl_jax.results import Result

YAWS = ((0.0, 30.0), (30.0, 60.0), (60.0, 90.0))
NME_LIMITS = np.linspace(0, 0.2, 101)
ANGLE_LIMITS = np.linspace(0, 45, 91)  # degrees


class Errors(NamedTuple):
    """Statistics of the errors of labelled instances; `misses` of them were not detected."""

    instances: int
    misses: int
    mean: float  # of detected instances; NaN if there are none
    std: float

    @classmethod
    def of(cls, errors: Iterable[float]) -> "Errors":
        """Summarise errors; those of missed instances are infinite."""
        every = np.array(list(errors), float)
        found = every[np.isfinite(every)]
        mean, std = (found.mean(), found.std()) if len(found) else (math.nan, math.nan)
        return cls(len(every), len(every) - len(found), float(mean), float(std))


class FaceErrors:
    """Accumulate errors of landmarks and pose angles image by image.

    Landmarks are the first of the `attributes` of that kind, grouped by the yaw of the first pose
    that has one. Angles are those of every pose.
    """

    def __init__(self, attributes: Iterable[Attribute]):
        declared = tuple(attributes)
        self.poses = tuple(a for a in declared if a.angle_names)
        self.landmarks = first_landmarks(declared)
        self._yaw = next((a for a in self.poses if "yaw" in a.angle_names), None)
        self._points: list[tuple[float, float]] = []  # NME, yaw
        self.angles: dict[str, list[float]] = {
            f"{pose.name}/{angle}": [] for pose in self.poses for angle in pose.angle_names
        }

    def add(self, record: Record, result: Result, finders: Mapping[int, int]) -> None:
        """Add an image; `finders` maps the index of an instance to that of its detection."""
        for i, instance in enumerate(record.instances):
            if not instance.crowd:
                self._add(instance, result, finders.get(i))

    def _add(self, instance: Instance, result: Result, found: int | None) -> None:
        for pose in self.poses:
            values, known = instance.label_of(pose)
            turns = np.full(len(values), np.inf)
            if found is not None:
                turns = angle_errors(result.attributes[pose.name][found], values)
            for angle, turn, is_known in zip(pose.angle_names, turns, known, strict=True):
                if is_known:
                    self.angles[f"{pose.name}/{angle}"].append(float(turn))
        if self.landmarks is None:
            return
        predicted = None if found is None else result.attributes[self.landmarks.name][found]
        error = visible_error(self.landmarks, instance, predicted)
        if error is not None:
            self._points.append((error, self._yaw_of(instance)))

    def _yaw_of(self, instance: Instance) -> float:
        if self._yaw is None:
            return math.nan
        values, known = instance.label_of(self._yaw)
        at = self._yaw.angle_names.index("yaw")
        return float(values[at]) if known[at] else math.nan

    @property
    def nme(self) -> list[float]:
        """The error of each instance with visible points; infinite if it was not detected."""
        return [error for error, _ in self._points]

    def by_yaw(self) -> dict[str, Errors]:
        """Return the NME of each yaw range, and of all instances including unknown yaws."""
        ranges = {}
        for low, high in YAWS:
            inside = [
                error
                for error, yaw in self._points
                if low < abs(yaw) <= high or (low == 0 and yaw == 0)
            ]
            ranges[f"{low:g} to {high:g}"] = Errors.of(inside)
        return {**ranges, "all": Errors.of(self.nme)}

    def summary(self) -> dict[str, dict]:
        """Return all errors for a JSON file; numbers without data are omitted."""
        curves = {name: cumulative(errors, ANGLE_LIMITS) for name, errors in self.angles.items()}
        return {
            "nme": {name: _stated(errors) for name, errors in self.by_yaw().items()},
            "nme_curve": _curve(NME_LIMITS, cumulative(self.nme, NME_LIMITS)),
            "angle_curves": {name: _curve(ANGLE_LIMITS, shares) for name, shares in curves.items()},
        }


def visible_error(
    attribute: Landmarks, instance: Instance, predicted: np.ndarray | None
) -> float | None:
    """Return the mean distance of an instance's visible points, divided by the square root of its
    box's area.

    None if there are no visible points or the box has no area, infinity if the instance was not
    detected. A point with unknown visibility counts as visible.
    """
    values, known = instance.label_of(attribute)
    truth, known = values.reshape(-1, 3), known.reshape(-1, 3)
    visible = known[:, 0] & (~known[:, 2] | (truth[:, 2] >= 0.5))
    x1, y1, x2, y2 = instance.box
    if not visible.any() or x2 <= x1 or y2 <= y1:
        return None
    if predicted is None:
        return math.inf
    distance = np.linalg.norm(predicted.reshape(-1, 3)[:, :2] - truth[:, :2], axis=-1)
    return float(distance[visible].mean() / math.sqrt((x2 - x1) * (y2 - y1)))


def cumulative(errors: Iterable[float], limits: np.ndarray) -> np.ndarray:
    """Return the share of errors that are at most each limit; misses exceed every limit."""
    every = np.array(list(errors), float)
    return (every[:, None] <= limits).mean(0) if len(every) else np.zeros(len(limits))


def _stated(errors: Errors) -> dict[str, float]:
    return {k: v for k, v in errors._asdict().items() if math.isfinite(v)}


def _curve(limits: np.ndarray, shares: np.ndarray) -> dict[str, list[float]]:
    return {"at_most": limits.round(6).tolist(), "share": shares.round(6).tolist()}
