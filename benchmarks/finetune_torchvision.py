"""torchvision's half of `benchmarks.finetune`: its Mask R-CNN with the sizes of a config."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict
from torchvision.models import get_model  # pyright: ignore[reportMissingImports]
from torchvision.models.detection import (  # pyright: ignore[reportMissingImports]
    MaskRCNN,
    anchor_utils,
    backbone_utils,
    faster_rcnn,
    mask_rcnn,
)

from benchmarks.mask_rcnn_torchvision import DEVICE
from mtl_jax import experiment
from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions
from mtl_jax.config.options.training import OptimizerOptions
from mtl_jax.config.resolve import resolve
from mtl_jax.convert.torchvision_names import model_tensors, to_state_dict
from mtl_jax.data.datasets import sources
from mtl_jax.runs.initial import initial_variables
from mtl_jax.runs.setup import Setup
from mtl_jax.training.optimizer import learning_rate_schedule
from mtl_jax.types import Batch, Detections, Inputs


def finetune(config: ConfigDict, workdir: Path) -> Any:
    """Train torchvision's model with the settings of `config`, or load it if it is trained."""
    config.data.mask_size = 0  # torchvision requires masks of the whole image
    workdir.mkdir(parents=True, exist_ok=True)
    resolved = resolve(config)
    opened = sources.open_sources(resolved.sources, (), workdir / "splits.json", wanted=("train",))
    setup = Setup.build(resolved, opened["train"].categories)
    options = resolved.mask_rcnn("this benchmark")
    model, trained = build(options, len(setup.categories) + 1), workdir / "model.pth"
    if trained.exists():
        model.load_state_dict(torch.load(trained))
        return model.to(DEVICE).eval()
    loop = setup.experiment.train
    ours: Any = flatten_dict(jax.device_get(initial_variables(setup, loop.seed)), sep="/")
    state = to_state_dict(ours, model_tensors(options))
    model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in state.items()}, strict=False)
    model.to(DEVICE)
    torch.manual_seed(loop.seed)
    (stage,) = resolved.stages
    rate = stage.learning_rate or resolved.optimizer.learning_rate
    batches = experiment.train_batches(setup, opened["train"].repeated(), loop, 0)
    train(model, islice(batches, stage.steps), resolved.optimizer, stage.steps, rate)
    torch.save(model.state_dict(), trained)
    return model.eval()


def build(options: MaskRCNNOptions, classes: int) -> Any:
    """Build torchvision's Mask R-CNN with our options, without its resizing of images."""
    o = options
    body = get_model(f"resnet{o.backbone.depth}", weights=None)
    stages = [64, 128, 256, 512] if o.backbone.depth < 50 else [256, 512, 1024, 2048]
    layers = {f"layer{i + 1}": str(i) for i in range(4)}
    channels, mask = o.fpn.channels, o.mask_head
    model: Any = MaskRCNN(
        backbone_utils.BackboneWithFPN(body, layers, stages, channels),
        rpn_anchor_generator=anchor_utils.AnchorGenerator(
            o.rpn.anchor_sizes, (o.rpn.anchor_ratios,) * len(o.rpn.anchor_sizes)
        ),
        rpn_pre_nms_top_n_train=o.rpn.pre_nms_train,
        rpn_pre_nms_top_n_test=o.rpn.pre_nms,
        rpn_post_nms_top_n_train=o.rpn.post_nms_train,
        rpn_post_nms_top_n_test=o.rpn.post_nms,
        rpn_batch_size_per_image=o.rpn.samples,
        box_head=faster_rcnn.TwoMLPHead(channels * o.box_head.pool_size**2, o.box_head.fc_features),
        box_predictor=faster_rcnn.FastRCNNPredictor(o.box_head.fc_features, classes),
        box_batch_size_per_image=o.roi.samples,
        box_detections_per_img=o.detection.max_detections,
        mask_head=mask_rcnn.MaskRCNNHeads(channels, (mask.channels,) * mask.convs, 1),
        mask_predictor=mask_rcnn.MaskRCNNPredictor(mask.channels, mask.channels, classes),
    )
    # Its own `_skip_resize` is used only in training.
    model.transform.resize = lambda image, target: (image, target)
    return model


def train(
    model: Any, batches: Iterator[Batch], recipe: OptimizerOptions, steps: int, rate: float
) -> None:
    """Train with AdamW as `make_optimizer` builds it."""
    if recipe.name != "adamw":
        raise ValueError(f"optimizer must be 'adamw' for this benchmark, got {recipe.name!r}")
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [dict(params=matrices, weight_decay=recipe.weight_decay), dict(params=vectors)],
        betas=(recipe.beta1, recipe.beta2),
        eps=recipe.epsilon,
        weight_decay=0.0,
    )
    schedule = learning_rate_schedule(recipe, steps, rate)
    model.train()
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = float(schedule(np.float32(step)))
        losses = model(images(batch.inputs), targets(batch))
        loss = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()


def images(inputs: Inputs) -> list[torch.Tensor]:
    """Return the images without padding: `[3, h, w]`, 0..1."""
    return [
        torch.tensor(image[: int(h), : int(w)], device=DEVICE).permute(2, 0, 1) / 255
        for image, (h, w) in zip(inputs.images, inputs.sizes, strict=True)
    ]


def targets(batch: Batch) -> list[dict[str, torch.Tensor]]:
    """Return the ground truth in torchvision's format."""
    result = []
    for row, (h, w) in enumerate(batch.sizes.astype(int)):
        kept = batch.gt.valid[row] & batch.gt.mask_valid[row]
        found = {
            "boxes": batch.gt.boxes[row][kept],
            "labels": batch.gt.classes[row][kept].astype(np.int64),
            "masks": (batch.gt.masks[row][kept][:, :h, :w] > 127).astype(np.uint8),
        }
        result.append({name: torch.from_numpy(x).to(DEVICE) for name, x in found.items()})
    return result


@torch.inference_mode()
def predict(model: Any, inputs: Inputs) -> Detections:
    """Detect objects; masks are on the cells of their boxes, as ours."""
    model.transform.postprocess = lambda found, *sizes: found
    slots = model.roi_heads.detections_per_img
    rows = len(inputs.valid)
    boxes = np.zeros((rows, slots, 4), np.float32)
    scores = np.zeros((rows, slots), np.float32)
    classes = np.zeros((rows, slots), np.int32)
    masks = np.zeros((rows, slots, 28, 28), np.float32)
    for row, found in enumerate(model(images(inputs))):
        count = len(found["scores"])
        boxes[row, :count] = found["boxes"].cpu()
        scores[row, :count] = found["scores"].cpu()
        classes[row, :count] = found["labels"].cpu()
        masks[row, :count] = found["masks"][:, 0].cpu()
    valid = (scores > 0) & inputs.valid[:, None]
    return Detections(boxes, scores, classes, valid, masks, {})
