"""Measure what masks lose on the mask head's grid: targets of the ground truth, pasted back.

    python -m benchmarks.mask_grid
    python -m benchmarks.mask_grid --annotations coco/annotations/instances.json --masks 300

Prints the mean IoU of annotated masks with themselves after the grid, for the annotated box of each
instance: as torchvision does it, with aligned targets only, and with `model.mask_head.exact`.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np

from mtl_jax.data.segmentation import to_mask
from mtl_jax.ops.masks import mask_targets
from mtl_jax.results import paste_mask

SIDE = 28
SMALL = 32**2  # COCO's limit of small objects, in square pixels
WAYS = {"torchvision": (False, False), "aligned": (True, False), "exact": (True, True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    coco = Path(os.environ.get("MTL_JAX_DATA", "."), "coco_mini/annotations/instances.json")
    parser.add_argument("--annotations", type=Path, default=coco, help="a COCO instances file")
    parser.add_argument("--masks", type=int, default=300)
    options = parser.parse_args()
    lists = json.loads(options.annotations.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in lists["images"]}
    single = [each for each in lists["annotations"] if not each.get("iscrowd")]
    order = np.random.default_rng(0).permutation(len(single))[: options.masks]
    overlaps: dict[str, list[float]] = {way: [] for way in WAYS}
    small = []
    for i in order.tolist():
        size = sizes[single[i]["image_id"]]
        truth = to_mask(single[i]["segmentation"], *size)
        x, y, width, height = single[i]["bbox"]
        box = np.array([x, y, x + width, y + height])
        small.append(truth.sum() < SMALL)
        for way, found in overlaps.items():
            back = paste_back(truth, box, *WAYS[way])
            found.append((back & truth).sum() / max((back | truth).sum(), 1))
    print(f"{len(small)} masks, {sum(small)} of them small: mean IoU")
    for way, found in overlaps.items():
        of_small = [iou for iou, is_small in zip(found, small, strict=True) if is_small]
        shown = f"{np.mean(of_small):.3f}" if of_small else "n/a"
        print(f"{way:12} {np.mean(found):.3f}, small {shown}")


def paste_back(truth: np.ndarray, box: np.ndarray, aligned: bool, exact: bool) -> np.ndarray:
    """Return the mask `truth` after the grid of `box`."""
    height, width = truth.shape
    frame = np.array([[0, 0, width, height]], np.float32)
    boxes, index = box[None].astype(np.float32), np.zeros(1, int)
    pixels = 255 * truth[None].astype(np.uint8)
    target = mask_targets(pixels, frame, boxes, index, SIDE, aligned)[0]
    return paste_mask(np.asarray(target), box, height, width, exact)


if __name__ == "__main__":
    main()
