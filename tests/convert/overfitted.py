"""torchvision's models trained on eight photographs until they detect the objects on them.

Random weights detect nothing, and a detector's weights cannot be downloaded everywhere.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shared_cache
import torch
from convert import torchvision_side
from torch import Tensor

from mtl_jax.data.pixels import read_pixels
from mtl_jax.data.readers.annotation_tools.coco import CocoSource
from mtl_jax.data.records import Record
from mtl_jax.data.segmentation import to_mask
from mtl_jax.io.atomic import write_whole

PHOTOGRAPHS, LEARNT, SIZE, BATCH = 12, 8, 256, 4
CANVAS = (192, 256)  # torchvision's padded size for these images: the next multiples of 32
# Fewer regions than by default: equally good weights in a fifth of the time.
SHORT = dict(
    rpn_pre_nms_top_n_train=400,
    rpn_post_nms_top_n_train=200,
    rpn_batch_size_per_image=128,
    box_batch_size_per_image=32,
)


def photographs(folder: Path, output: Path) -> CocoSource:
    """Open the first twelve images of coco_mini with an aspect ratio of about 3:2 and at most six
    objects.
    """
    data = json.loads((folder / "annotations/instances.json").read_text())
    objects = defaultdict(list)
    for annotation in data["annotations"]:
        objects[annotation["image_id"]].append(annotation)
    chosen = [
        image
        for image in data["images"]
        if 0.63 < image["height"] / image["width"] <= 0.7
        and 1 <= len(objects[image["id"]]) <= 6
        and not any(annotation["iscrowd"] for annotation in objects[image["id"]])
    ][:PHOTOGRAPHS]
    annotations = [annotation for image in chosen for annotation in objects[image["id"]]]
    output.write_text(json.dumps({**data, "images": chosen, "annotations": annotations}))
    return CocoSource(output, folder / "images")


def read_image(record: Record) -> torch.Tensor:
    """Read an image in torchvision's format: `[3, H, W]`, 0..1."""
    return torch.tensor(read_pixels(record, 3).transpose(2, 0, 1) / 255, dtype=torch.float32)


def target(record: Record) -> dict[str, torch.Tensor]:
    """Return the objects of an image in torchvision's format."""
    masks = [to_mask(x.segmentation, record.height, record.width) for x in record.instances]
    return {
        "boxes": torch.tensor([x.box for x in record.instances], dtype=torch.float32),
        "labels": torch.tensor([x.label for x in record.instances]),
        "masks": torch.tensor(np.stack(masks), dtype=torch.uint8),
    }


def weight_file(
    arch: str, images: Sequence[Tensor], targets: Sequence[dict], classes: int, steps: int
) -> Path:
    """Return the file of the weights of a model of `classes`, background included, trained on
    images and targets in torchvision's format.

    It is created once for all test runs, and again if this file changes, except its imports.
    """
    lines = Path(__file__).read_text().splitlines()
    recipe = "\n".join(line for line in lines if not line.startswith(("import ", "from ")))
    made_by = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    folder = shared_cache.folder("overfitted", "torch", "torchvision")
    file = folder / f"{arch}-{steps}-{made_by}.pth"
    if not file.exists():
        with write_whole(file) as draft:
            torch.save(overfit(arch, images, targets, classes, steps), draft)
    return file


def overfit(
    arch: str,
    images: Sequence[Tensor],
    targets: Sequence[dict],
    classes: int,
    steps: int,
    rate: float = 1e-3,
) -> dict[str, Any]:
    """Train all but the random ResNet; return the state dict."""
    torch.manual_seed(0)
    model = torchvision_side.make(arch, classes, (SIZE, SIZE), **SHORT).train()

    def losses(step: int) -> dict[str, torch.Tensor]:
        first = step * BATCH % len(images)
        batch = slice(first, first + BATCH)
        return model(images[batch], [dict(target) for target in targets[batch]])

    _fix_norms(model, losses, len(images) // BATCH)
    model.backbone.body.requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, rate, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.15)
    for step in range(steps):
        terms = losses(step)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        torch.nn.utils.clip_grad_norm_(trained, 10.0)
        optimizer.step()
        schedule.step()
    return model.state_dict()


def _fix_norms(model: torch.nn.Module, run: Callable[[int], object], batches: int) -> None:
    """Make batch norms constant, with the statistics of all images; frozen norms already are.

    Statistics of batches of four differ so much that weights trained with them detect nothing with
    running statistics. Residual branches are scaled by 1/4 to keep the features of random weights
    small.
    """
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean over all batches
    for name, module in model.named_modules():
        if module in norms and name.endswith("bn3"):
            torch.nn.init.constant_(module.weight, 0.25)
    if norms:
        with torch.no_grad():
            for step in range(batches):
                run(step)
    for norm in norms:
        norm.eval()
