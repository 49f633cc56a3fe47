"""Errors of landmarks by how far a head is turned, and how many errors stay below a limit.

Source: Ranjan et al., HyperFace, 2016 (https://arxiv.org/abs/1603.01249), section 5: NME is over
visible points, of yaws within [0, 30], (30, 60] and (60, 90] degrees.
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
    """The errors of some labelled instances, of which `misses` were not found."""

    instances: int
    misses: int
    mean: float  # of those found; NaN where there is none
    std: float

    @classmethod
    def of(cls, errors: Iterable[float]) -> "Errors":
        """Sum errors up; those of missed instances are infinite."""
        every = np.array(list(errors), float)
        found = every[np.isfinite(every)]
        mean, std = (found.mean(), found.std()) if len(found) else (math.nan, math.nan)
        return cls(len(every), len(every) - len(found), float(mean), float(std))


class FaceErrors:
    """Takes one picture after another: the first of the `attributes` that is of landmarks, by the
    yaw of the first pose that has one, and every angle of every pose.
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
        """Take a picture; `finders` gives the detection that found an instance, by their places."""
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
        """The error of each instance with visible points; infinite where it was not found."""
        return [error for error, _ in self._points]

    def by_yaw(self) -> dict[str, Errors]:
        """Give the NME of each range of yaws, and of all instances, of unknown yaw too."""
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
        """Give all of it for a JSON file: numbers for which there is no data are left out."""
        curves = {name: cumulative(errors, ANGLE_LIMITS) for name, errors in self.angles.items()}
        return {
            "nme": {name: _stated(errors) for name, errors in self.by_yaw().items()},
            "nme_curve": _curve(NME_LIMITS, cumulative(self.nme, NME_LIMITS)),
            "angle_curves": {name: _curve(ANGLE_LIMITS, shares) for name, shares in curves.items()},
        }


def visible_error(
    attribute: Landmarks, instance: Instance, predicted: np.ndarray | None
) -> float | None:
    """Give the mean distance of an instance's visible points, over the square root of its box's
    area; None where it has none, infinity where it was not found.

    A point of which nobody says that it is hidden counts as visible.
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
    """Give the share of errors that are at most each limit; misses are above all of them."""
    every = np.array(list(errors), float)
    return (every[:, None] <= limits).mean(0) if len(every) else np.zeros(len(limits))


def _stated(errors: Errors) -> dict[str, float]:
    return {k: v for k, v in errors._asdict().items() if math.isfinite(v)}


def _curve(limits: np.ndarray, shares: np.ndarray) -> dict[str, list[float]]:
    return {"at_most": limits.round(6).tolist(), "share": shares.round(6).tolist()}
