"""Outputs of torchvision's Mask R-CNN by stage, as NumPy arrays.

In training all anchors and regions are sampled, so that there is no randomness; norms are constant.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from convert.our_side import ANCHORS, POST_NMS, PRE_NMS, REGIONS
from torchvision.models import detection

EXHAUSTIVE = dict(
    rpn_pre_nms_top_n_train=PRE_NMS,
    rpn_post_nms_top_n_train=POST_NMS,
    rpn_batch_size_per_image=ANCHORS,
    box_batch_size_per_image=REGIONS,
)
TERMS = {
    "rpn_objectness": "loss_objectness",
    "rpn_box": "loss_rpn_box_reg",
    "box_class": "loss_classifier",
    "box_regression": "loss_box_reg",
    "mask": "loss_mask",
}


class Differentiated(NamedTuple):
    terms: dict[str, float]  # by our names
    gradients: dict[str, np.ndarray]  # by parameter
    largest: float  # mask logit


def make(arch: str, classes: int, size: tuple[int, int], **options: Any) -> torch.nn.Module:
    """Build a model; `classes` include the background, `size` is (min_size, max_size)."""
    build = getattr(detection, arch)
    sizes = dict(min_size=size[0], max_size=size[1])
    return build(weights=None, weights_backbone=None, num_classes=classes, **sizes, **options)


def load(arch: str, state: dict[str, Any], size: tuple[int, int], **options: Any):
    """Build a model with the weights of a state dict, for inference."""
    tensors = {key: torch.as_tensor(value) for key, value in state.items()}
    classes = len(tensors["roi_heads.box_predictor.cls_score.bias"])
    model = make(arch, classes, size, **options)
    mismatch = model.load_state_dict(tensors, strict=False)
    assert not mismatch.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in mismatch.missing_keys)
    return model.eval()


def detect(model: torch.nn.Module, images: list[torch.Tensor]) -> list[dict[str, np.ndarray]]:
    """Return the detections on each image, processed one by one."""
    with torch.no_grad():
        return [{k: v.numpy() for k, v in model([x])[0].items()} for x in images]


def look_inside(
    model: torch.nn.Module, images: list[torch.Tensor]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the pyramid `[B, Hl, Wl, C]` and the proposals of each image."""
    with torch.no_grad():
        inputs, _ = model.transform(images)
        features = model.backbone(inputs.tensors)
        proposals, _ = model.rpn(inputs, features)
    levels = [level.numpy().transpose(0, 2, 3, 1) for level in features.values()]
    return levels, [boxes.numpy() for boxes in proposals]


def differentiate(
    model: torch.nn.Module, images: list[torch.Tensor], targets: list[dict[str, torch.Tensor]]
) -> Differentiated:
    """Return the losses of a model created with EXHAUSTIVE, and their sum's gradient."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    largest = []
    predictor = model.roi_heads.mask_predictor
    predictor.register_forward_hook(lambda *args: largest.append(args[2].abs().max().item()))
    terms = model(images, [dict(target) for target in targets])
    sum(terms.values()).backward()
    gradients = {key: torch.zeros_like(value) for key, value in model.state_dict().items()}
    gradients |= {key: value.grad for key, value in model.named_parameters()}
    return Differentiated(
        {ours: terms[theirs].item() for ours, theirs in TERMS.items()},
        {key: value.numpy() for key, value in gradients.items()},
        max(largest),
    )
