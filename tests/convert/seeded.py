"""Weights of torchvision's models and an image with ground truth, all drawn by NumPy, so that they
are the same without PyTorch.
"""

from functools import cache
from zlib import crc32

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from scenes import random_batch

from mtl_jax.convert import torchvision_names as names
from mtl_jax.models.mask_rcnn.network import mask_rcnn
from mtl_jax.types import Batch

ARCHS = ("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2")
CLASSES = 5  # including the background
SIZE = (192, 256)  # of the image, which is not resized
TRUTH = ((20, 30, 90, 150), (110, 40, 240, 120), (60, 100, 130, 190))  # boxes, all ellipses
MASKS = 20  # detections whose masks are in a golden file
PARTS = ("backbone", "fpn", "rpn", "box_head", "mask_head")


@cache
def state(arch: str) -> dict[str, np.ndarray]:
    """Return a state dict of torchvision's `arch`; each tensor's seed is its name."""
    options = names.arch_options(arch)
    inputs = random_batch(1).inputs
    shapes = jax.eval_shape(mask_rcnn(options, CLASSES).init, jax.random.key(0), inputs)
    empty = {
        path: np.zeros(leaf.shape, np.float32)
        for path, leaf in flatten_dict(shapes, sep="/").items()
    }
    theirs = names.to_state_dict(empty, names.model_tensors(options))
    return {key: _draw(key, tensor.shape) for key, tensor in theirs.items()}


def _draw(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Draw a tensor that preserves the scale of activations and makes outputs differ."""
    rng = np.random.default_rng(crc32(key.encode()))
    if key.endswith("running_var"):
        return rng.uniform(0.8, 1.5, shape).astype(np.float32)
    normal = rng.standard_normal(shape, np.float32)
    if key.endswith(("bias", "running_mean")):
        return 0.1 * normal
    if len(shape) == 1:  # a norm's scale; small in residual branches
        return np.float32(0.3 if ".bn3." in key else 1.0) + 0.1 * normal
    inputs = shape[0] if "conv5_mask" in key else np.prod(shape[1:])
    gains = {"cls_score": 0.6, "bbox_pred": 0.3, "cls_logits": 0.3, "mask_fcn_logits": 0.3}
    gain = next((gain for name, gain in gains.items() if name in key), 2**0.5)
    return normal * np.float32(gain / np.sqrt(inputs))


def batch() -> Batch:
    """Return one image of soft blots with three objects and masks of the image's size."""
    height, width = SIZE
    blots = np.random.default_rng(0).uniform(0, 255, (height // 16 + 1, width // 16 + 1, 3))
    image = _enlarge(_enlarge(blots, 16, 0)[:height], 16, 1)[:, :width].astype(np.uint8)
    empty = random_batch(1, slots=len(TRUTH), objects=len(TRUTH))
    boxes = np.array(TRUTH, np.float32)
    y, x = np.mgrid[:height, :width] + 0.5
    centres, radii = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    masks = np.stack(
        [
            ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1
            for (cx, cy), (rx, ry) in zip(centres, radii, strict=True)
        ]
    )
    gt = empty.gt._replace(
        boxes=boxes[None],
        classes=np.array([[1, 2, 4]], np.int32),
        masks=255 * masks[None].astype(np.uint8),
        attributes={},
    )
    return empty._replace(images=image[None], sizes=np.array([SIZE], np.float32), gt=gt)


def _enlarge(values: np.ndarray, times: int, axis: int) -> np.ndarray:
    """Interpolate linearly between the values along an axis."""
    values = np.moveaxis(values, axis, 0)
    at = np.arange((len(values) - 1) * times) / times
    low, share = at.astype(int), (at % 1).reshape(-1, *(1,) * (values.ndim - 1))
    return np.moveaxis(values[low] * (1 - share) + values[low + 1] * share, 0, axis)


def sample(values: np.ndarray, count: int = 500) -> np.ndarray:
    """Return some of an array's numbers, always at the same positions."""
    return values.reshape(-1)[np.random.default_rng(0).integers(0, values.size, count)]
