"""torchvision's half of `benchmarks.mask_rcnn`, eager or with `torch.compile`."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch.utils import _pytree  # pyright: ignore[reportMissingImports]
from torchvision.models.detection import MaskRCNN, backbone_utils, roi_heads  # pyright: ignore[reportMissingImports]

from benchmarks.mask_rcnn_scene import CLASSES, Scene, ellipse

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cases(scene: Scene, options: argparse.Namespace, weights: Path) -> dict[str, Callable[[], Any]]:
    """Return the timed functions by name."""
    torch.set_num_threads(options.threads)
    model = _model(scene, options, weights)
    images = [torch.from_numpy(x).permute(2, 0, 1).contiguous() for x in scene.images]
    masks = _masks(scene)
    targets = [
        {
            "boxes": torch.from_numpy(boxes),
            "labels": torch.from_numpy(classes),
            "masks": torch.from_numpy(mask.astype(np.uint8)),
        }
        for boxes, classes, mask in zip(scene.boxes, scene.classes, masks, strict=True)
    ]

    run_model = torch.compile(model) if options.compiled else model

    def run(*arguments: Any) -> Any:
        half = options.dtype == "bfloat16"
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=half):
            return run_model([x.to(DEVICE).float() / 255 for x in images], *arguments)

    @torch.inference_mode()
    def detect(threshold: float) -> list[dict[str, np.ndarray]]:
        model.roi_heads.score_thresh = threshold
        model.eval()
        return [{k: v.cpu().numpy() for k, v in found.items()} for found in run()]

    found = max(1, options.found * len(scene.images))
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


def _masks(scene: Scene) -> np.ndarray:
    """Draw the objects' masks on whole images: bool [B, M, H, W]."""
    height, width = scene.images.shape[1:3]
    side = max(height, width)
    frames = np.broadcast_to(np.array([0, 0, side, side], np.float32), scene.boxes.shape)
    return ellipse(scene.boxes, frames, side)[..., :height, :width]


def _model(scene: Scene, options: argparse.Namespace, weights: Path) -> Any:
    torch.manual_seed(0)
    sides = sorted(scene.images.shape[1:3])
    # As ours: frozen batch norms, the builder's default, and all five stages trained.
    backbone = backbone_utils.resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, trainable_layers=5
    )
    model: Any = MaskRCNN(backbone, CLASSES, min_size=sides[0], max_size=sides[1])
    for name, module in model.named_modules():
        if name.endswith(".bn3"):
            module.weight.fill_(0.25)
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.bias[1 + options.alive :] = -10_000
    if weights.exists():
        with np.load(weights) as stored:
            state = {name: torch.from_numpy(stored[name]) for name in stored.files}
        model.load_state_dict(state)
    return model.to(DEVICE)


def parts(scene: Scene, options: argparse.Namespace, weights: Path) -> dict[str, Callable[[], Any]]:
    """Return functions that run the network's parts by name: forward, and forward with backward."""
    torch.set_num_threads(options.threads)
    model = _model(scene, options, weights).eval()
    rpn, heads, body = model.rpn, model.roi_heads, model.backbone
    heads.score_thresh = 0.0
    shapes = [tuple(scene.images.shape[1:3])] * len(scene.images)
    known: dict[str, Callable[[], Any]] = {}

    def part(name: str, function: Callable, *inputs: Any, trained: Any = ()) -> Any:
        """Add a part, with its backward pass on the inputs `trained`; return its outputs."""
        known[name] = partial(_forward, function, inputs)
        if trained:
            known[f"{name}, backward"] = partial(_backward, function, trained)
        with torch.no_grad():
            return function(*inputs)

    raw = [torch.from_numpy(x).permute(2, 0, 1).float().to(DEVICE) / 255 for x in scene.images]
    images = part("normalize", lambda x: model.transform(x)[0], raw)
    tensors = images.tensors
    features = part("backbone", body.body, tensors, trained=(tensors,))
    pyramid = part("fpn", body.fpn, features, trained=(features,))
    levels = list(pyramid.values())
    part("rpn head", rpn.head, levels, trained=(levels,))
    regions, _ = part("rpn head, proposals", rpn, images, pyramid)
    part("targets", partial(_targets, model, scene), rpn.anchor_generator(images, levels), regions)
    fewer = [x[:512] for x in regions]
    pool = partial(part, "box roi_align", heads.box_roi_pool)
    pooled = pool(pyramid, regions, shapes, trained=(pyramid, fewer, shapes))
    head = partial(part, "box head", torch.nn.Sequential(heads.box_head, heads.box_predictor))
    outputs = head(pooled, trained=(pooled[: 512 * len(scene.images)],))
    detect = partial(part, "detections", heads.postprocess_detections)
    boxes, _, _ = detect(*outputs, regions, shapes)
    pool = partial(part, "mask roi_align", heads.mask_roi_pool)
    pooled = pool(pyramid, boxes, shapes, trained=(pyramid, boxes, shapes))
    head = partial(part, "mask head", torch.nn.Sequential(heads.mask_head, heads.mask_predictor))
    masks = head(pooled, trained=(pooled,))[:, 1:2].sigmoid()
    paste = partial(roi_heads.paste_masks_in_image, img_shape=shapes[0])
    part("paste", paste, masks, torch.cat(boxes))
    return known


def _targets(
    model: Any, scene: Scene, anchors: list[torch.Tensor], regions: list[torch.Tensor]
) -> None:
    """Match and sample anchors and proposals; training has twice the proposals of inference."""
    boxes = [torch.from_numpy(x).to(DEVICE) for x in scene.boxes]
    labels = [torch.from_numpy(x).to(DEVICE) for x in scene.classes]
    of_anchors, _ = model.rpn.assign_targets_to_anchors(anchors, [{"boxes": x} for x in boxes])
    model.rpn.fg_bg_sampler(of_anchors)
    twice = [torch.cat([x, x, y]) for x, y in zip(regions, boxes, strict=True)]
    _, of_regions = model.roi_heads.assign_targets_to_proposals(twice, boxes, labels)
    model.roi_heads.subsample(of_regions)


@torch.inference_mode()
def _forward(function: Callable, inputs: Any) -> None:
    function(*inputs)
    _synchronize()


def _backward(function: Callable, inputs: Any) -> None:
    leaves = _pytree.tree_map(_leaf, inputs)
    outputs = _pytree.tree_leaves(function(*leaves))
    torch.stack([x.sum() for x in outputs]).sum().backward()
    _synchronize()


def _leaf(x: Any) -> Any:
    return x.detach().requires_grad_() if isinstance(x, torch.Tensor) else x


def _synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
