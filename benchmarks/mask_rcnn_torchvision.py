"""torchvision's half of `benchmarks.mask_rcnn`."""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from benchmarks.mask_rcnn import CLASSES, Scene, ellipse

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cases(scene: Scene, options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """Give what is timed by name; each returns what it found."""
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    model = _model(options)
    images = [torch.from_numpy(x).permute(2, 0, 1).contiguous() for x in scene.images]
    canvas = np.broadcast_to(np.float32([0, 0, *[options.size] * 2]), scene.boxes.shape)
    masks = ellipse(scene.boxes, canvas, options.size)
    targets = [
        {
            "boxes": torch.from_numpy(boxes),
            "labels": torch.from_numpy(classes),
            "masks": torch.from_numpy(mask.astype(np.uint8)),
        }
        for boxes, classes, mask in zip(scene.boxes, scene.classes, masks, strict=True)
    ]

    def run(*arguments: Any) -> Any:
        half = options.dtype == "bfloat16"
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=half):
            return model([x.to(DEVICE).float() / 255 for x in images], *arguments)

    @torch.inference_mode()
    def detect(threshold: float) -> list[dict[str, np.ndarray]]:
        model.roi_heads.score_thresh = threshold
        model.eval()
        return [{k: v.cpu().numpy() for k, v in found.items()} for found in run()]

    found = max(1, options.found * options.batch)
    ranked = np.sort(np.concatenate([one["scores"] for one in detect(0.0)]))[::-1]
    threshold = float(ranked[found - 1] + ranked[found]) / 2
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5, momentum=0.9)

    def step() -> float:
        model.train()
        on_device = [{k: v.to(DEVICE) for k, v in target.items()} for target in targets]
        loss = torch.stack(list(run(on_device).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return {
        "100": lambda: [len(one["scores"]) for one in detect(0.0)],
        "few": lambda: [len(one["scores"]) for one in detect(threshold)],
        "train": step,
    }


def _model(options: argparse.Namespace) -> MaskRCNN:
    # The builder's frozen batch norms, and all five stages trained, as ours are.
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=5)
    model = MaskRCNN(backbone, CLASSES, min_size=options.size, max_size=options.size)
    for name, module in model.named_modules():
        if name.endswith(".bn3"):
            module.weight.fill_(0.25)
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.bias[1 + options.alive :] = -10_000
    return model.to(DEVICE)


def parts(scene: Scene, options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """Give nothing yet."""
    return {}
