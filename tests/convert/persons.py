"""Photographs of persons with keypoints, in torchvision's format."""

import json
from pathlib import Path

import numpy as np
import torch
from convert.overfitted import BATCH

from mtl_jax.images.decode import decode


def choose(folder: Path) -> dict[Path, list[dict]]:
    """Return the first four photographs of the usual shape whose persons all have keypoints."""
    data = json.loads((folder / "annotations/person_keypoints.json").read_text())
    chosen: dict[Path, list[dict]] = {}
    for image in data["images"]:
        found = [a for a in data["annotations"] if a["image_id"] == image["id"]]
        usual = 0.63 < image["height"] / image["width"] <= 0.7
        if usual and found and all(a["num_keypoints"] > 7 for a in found) and len(found) <= 3:
            chosen[folder / "images" / image["file_name"]] = found
    return dict(list(chosen.items())[:BATCH])


def target(annotations: list[dict]) -> dict[str, torch.Tensor]:
    boxes = np.array([a["bbox"] for a in annotations], np.float32)
    boxes[:, 2:] += boxes[:, :2]
    keypoints = np.array([a["keypoints"] for a in annotations], np.float32)
    return {
        "boxes": torch.tensor(boxes),
        "labels": torch.ones(len(boxes), dtype=torch.int64),
        "keypoints": torch.tensor(keypoints).reshape(len(boxes), 17, 3),
    }


def read_image(path: Path) -> torch.Tensor:
    return torch.tensor(decode(path, 3).transpose(2, 0, 1) / 255, dtype=torch.float32)
