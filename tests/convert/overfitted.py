"""torchvision's models trained on twenty photographs until they find what is on them.

Random weights find nothing, and a detector's weights cannot be fetched everywhere.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from convert import torchvision_side

from mtl_jax.data import transforms
from mtl_jax.data.coco import CocoSource
from mtl_jax.data.records import Record
from mtl_jax.data.segmentation import to_mask

PHOTOGRAPHS, SIZE, BATCH = 20, 320, 4
CANVAS = (224, 320)  # torchvision's, of pictures of these shapes: the next multiples of 32
# Fewer regions than by default: what the weights learn is the same, in a fifth of the time.
SHORT = dict(
    rpn_pre_nms_top_n_train=400,
    rpn_post_nms_top_n_train=200,
    rpn_batch_size_per_image=128,
    box_batch_size_per_image=32,
)


def photographs(folder: Path, output: Path) -> CocoSource:
    """Open the first twenty pictures of coco_mini that are about 2 high and 3 wide, with six things
    at most.
    """
    data = json.loads((folder / "annotations/instances.json").read_text())
    things = defaultdict(list)
    for annotation in data["annotations"]:
        things[annotation["image_id"]].append(annotation)
    chosen = [
        image
        for image in data["images"]
        if 0.6 < image["height"] / image["width"] <= 0.7
        and 1 <= len(things[image["id"]]) <= 6
        and not any(annotation["iscrowd"] for annotation in things[image["id"]])
    ][:PHOTOGRAPHS]
    annotations = [annotation for image in chosen for annotation in things[image["id"]]]
    output.write_text(json.dumps({**data, "images": chosen, "annotations": annotations}))
    return CocoSource(output, folder / "images")


def picture(record: Record) -> torch.Tensor:
    """Read a picture as torchvision takes it: `[3, H, W]`, 0..1."""
    return torch.tensor(transforms.read(record, 3).transpose(2, 0, 1) / 255, dtype=torch.float32)


def target(record: Record) -> dict[str, torch.Tensor]:
    """Give a picture's things as torchvision takes them."""
    masks = [to_mask(x.segmentation, record.height, record.width) for x in record.instances]
    return {
        "boxes": torch.tensor([x.box for x in record.instances], dtype=torch.float32),
        "labels": torch.tensor([x.label for x in record.instances]),
        "masks": torch.tensor(np.stack(masks), dtype=torch.uint8),
    }


def fix_norms(model: torch.nn.Module, source: CocoSource) -> None:
    """Make batch norms constants, of the statistics of all of `source`; frozen ones are already.

    Those of four pictures at a time differ so much that weights trained with them find nothing
    without them. A quarter of each residual branch keeps the features of random weights small.
    """
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean over all batches
    for name, module in model.named_modules():
        if module in norms and name.endswith("bn3"):
            torch.nn.init.constant_(module.weight, 0.25)
    if norms:
        with torch.no_grad():
            for first in range(0, len(source), BATCH):
                records = [source[i] for i in range(first, first + BATCH)]
                model([picture(r) for r in records], [target(r) for r in records])
    for norm in norms:
        norm.eval()


def overfit(arch: str, source: CocoSource, steps: int, rate: float = 5e-4) -> dict[str, Any]:
    """Train a model on all of `source` and give its state dict."""
    torch.manual_seed(0)
    classes = len(source.categories) + 1
    model = torchvision_side.make(arch, classes, (SIZE, SIZE), **SHORT).train()
    fix_norms(model, source)
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.15)
    batches = np.random.default_rng(0)
    order: list[int] = []
    for _ in range(steps):
        if len(order) < BATCH:
            order = batches.permutation(len(source)).tolist()
        records = [source[order.pop()] for _ in range(BATCH)]
        terms = model([picture(r) for r in records], [target(r) for r in records])
        optimizer.zero_grad()
        sum(terms.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    return model.state_dict()
