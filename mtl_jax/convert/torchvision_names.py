"""Conversion between torchvision's tensors and ours, both ways.

Source: torchvision 0.26, `models/detection` and `models/resnet.py`. Constants that a state dict
does not contain are options of the model.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from mtl_jax.attributes.base import Attribute
from mtl_jax.config.options.backbone import BackboneOptions
from mtl_jax.config.options.mask_rcnn import (
    BoxHeadOptions,
    FpnOptions,
    MaskHeadOptions,
    MaskRCNNOptions,
    RoiOptions,
    RpnOptions,
)
from mtl_jax.convert.weight_files import check_tensors
from mtl_jax.errors import UserError, compile_pattern
from mtl_jax.layers.convnext import BLOCKS as CONVNEXT_BLOCKS
from mtl_jax.layers.resnet import BLOCKS
from mtl_jax.models.attribute_heads.heatmap import CONVS as HEATMAP_CONVS

Array = np.ndarray


class Layout(NamedTuple):
    """Conversion of a tensor's axes from torchvision to ours, and back."""

    to_ours: Callable[[Array], Array]
    to_theirs: Callable[[Array], Array]


class Tensor(NamedTuple):
    """One tensor with its name in both libraries."""

    path: str  # ours, with the collection: params/backbone/stem/conv1/kernel
    key: str  # torchvision's: backbone.body.conv1.weight
    layout: Layout


VECTOR = Layout(lambda x: x, lambda x: x)
DENSE = Layout(lambda x: x.T, lambda x: x.T)
CONV = Layout(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
DECONV = Layout(lambda x: x.transpose(2, 3, 0, 1), lambda x: x.transpose(2, 3, 0, 1))
DEPTHWISE = Layout(lambda x: x[:, 0].transpose(1, 2, 0), lambda x: x.transpose(2, 0, 1)[:, None])
CHANNELS = Layout(lambda x: x[:, 0, 0], lambda x: x[:, None, None])
# PyTorch's transposed convolution turns its kernel around, Flax's does not.
TURNED_DECONV = Layout(
    lambda x: x.transpose(2, 3, 0, 1)[::-1, ::-1], lambda x: x[::-1, ::-1].transpose(2, 3, 0, 1)
)
PIXEL_DENSE = Layout(lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None])

# Names before torchvision 0.13, and since. The published V1 weights have the old names, which
# number the mask head's convolutions from 1.
RENAMED = (
    (r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1"),
    (r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$", r"\1.0.\2"),
    *(
        (rf"^roi_heads\.mask_head\.mask_fcn{i + 1}\.", f"roi_heads.mask_head.{i}.0.")
        for i in range(4)
    ),
)
KEYPOINT_LOGITS = "roi_heads.keypoint_predictor.kps_score_lowres"
# What torchvision counts or classifies with, and a detector has no use for.
DROPPED = re.compile(r"num_batches_tracked$|^fc\.(weight|bias)$|^classifier\.")


def flattened(side: int) -> Layout:
    """Return the layout of a dense layer on a flattened `side` x `side` region.

    torchvision flattens a region with channels first, this library with channels last.
    """

    def to_ours(x: Array) -> Array:
        by_channel = x.reshape(len(x), -1, side, side)
        return by_channel.transpose(2, 3, 1, 0).reshape(-1, len(x))

    def to_theirs(x: Array) -> Array:
        by_place = x.reshape(side, side, -1, x.shape[1])
        return by_place.transpose(3, 2, 0, 1).reshape(x.shape[1], -1)

    return Layout(to_ours, to_theirs)


def model_tensors(options: MaskRCNNOptions, attributes: Sequence[Attribute] = ()) -> list[Tensor]:
    """Name the tensors of a Mask, Faster or Keypoint R-CNN. Raises UserError for a model that
    torchvision does not have.
    """
    box, mask = options.box_head, options.mask_head
    parts = (options.backbone, options.fpn, box, *((mask,) if mask.enabled else ()))
    if any(part.norm == "group" for part in parts):
        raise UserError("norm 'group' is not supported by torchvision's Mask R-CNN")
    if options.backbone.name != "resnet":
        raise UserError(f"torchvision has no Mask R-CNN on {options.backbone.name}")
    if options.backbone.stride_in_1x1:
        raise UserError("backbone.stride_in_1x1 must be False: torchvision strides in the 3x3")
    tensors = list(backbone_tensors(options.backbone, "backbone.body."))
    for i, level in enumerate((2, 3, 4, 5)):
        for ours, theirs in (("lateral", "inner_blocks"), ("output", "layer_blocks")):
            key = f"backbone.fpn.{theirs}.{i}"
            tensors += _conv_norm(f"fpn/{ours}{level}", key, options.fpn.norm, "_norm")
    for i in range(options.rpn.convs):
        tensors += _layer(f"rpn/conv{i + 1}", f"rpn.head.conv.{i}.0", CONV)
    tensors += _layer("rpn/objectness", "rpn.head.cls_logits", CONV)
    tensors += _layer("rpn/deltas", "rpn.head.bbox_pred", CONV)
    for i in range(box.convs):
        key = f"roi_heads.box_head.{i}"
        tensors += _conv_norm(f"box_head/conv{i + 1}", key, box.norm, f"norm{i + 1}")
    for i in range(box.fcs):
        # After convolutions, torchvision numbers them, the flattening and ReLUs in one sequence.
        key = f"{box.convs + 1 + 2 * i}" if box.convs else f"fc{6 + i}"
        layout = flattened(box.pool_size) if i == 0 else DENSE
        tensors += _layer(f"box_head/fc{i + 1}", f"roi_heads.box_head.{key}", layout)
    tensors += _layer("box_head/class_logits", "roi_heads.box_predictor.cls_score", DENSE)
    tensors += _layer("box_head/box_deltas", "roi_heads.box_predictor.bbox_pred", DENSE)
    if mask.enabled:
        for i in range(mask.convs):
            key = f"roi_heads.mask_head.{i}"
            tensors += _conv_norm(f"mask_head/conv{i + 1}", key, mask.norm, f"norm{i + 1}")
        predictor = "roi_heads.mask_predictor"
        tensors += _layer("mask_head/deconv", f"{predictor}.conv5_mask", DECONV)
        logits = f"{predictor}.mask_fcn_logits"
        tensors += [
            Tensor("params/mask_head/mask_logits_kernel", f"{logits}.weight", PIXEL_DENSE),
            Tensor("params/mask_head/mask_logits_bias", f"{logits}.bias", VECTOR),
        ]
    dense = [attribute.name for attribute in attributes if attribute.loss == "heatmap"]
    if len(dense) > 1:
        raise UserError(f"torchvision's models have one keypoint head, not {', '.join(dense)}")
    for name in dense:
        for i in range(HEATMAP_CONVS):
            key = f"roi_heads.keypoint_head.{2 * i}"
            tensors += _layer(f"dense_head_{name}/conv{i + 1}", key, CONV)
        tensors += _layer(f"dense_head_{name}/deconv", KEYPOINT_LOGITS, TURNED_DECONV)
    return tensors


def backbone_tensors(options: BackboneOptions, prefix: str = "") -> Iterator[Tensor]:
    """Name the tensors of a backbone, whose keys begin with `prefix`."""
    if options.name == "convnext_tiny":
        yield from _convnext_tensors(prefix)
    else:
        yield from _resnet_tensors(options, prefix)


def _convnext_tensors(prefix: str) -> Iterator[Tensor]:
    stem = f"{prefix}features.0"
    yield from _layer("backbone/stem/conv", f"{stem}.0", CONV)
    yield from _layer_norm("backbone/stem/norm", f"{stem}.1")
    for stage, blocks in enumerate(CONVNEXT_BLOCKS):
        path, key = f"backbone/stage{stage + 2}", f"{prefix}features.{2 * stage}"
        if stage:
            yield from _layer_norm(f"{path}/down/norm", f"{key}.0")
            yield from _layer(f"{path}/down/conv", f"{key}.1", CONV)
        for i in range(blocks):
            ours, theirs = f"{path}/block{i + 1}", f"{prefix}features.{2 * stage + 1}.{i}"
            depthwise = f"params/{ours}/depthwise"
            yield Tensor(f"{depthwise}_kernel", f"{theirs}.block.0.weight", DEPTHWISE)
            yield Tensor(f"{depthwise}_bias", f"{theirs}.block.0.bias", VECTOR)
            yield from _layer_norm(f"{ours}/norm", f"{theirs}.block.2")
            yield from _layer(f"{ours}/expand", f"{theirs}.block.3", DENSE)
            yield from _layer(f"{ours}/project", f"{theirs}.block.5", DENSE)
            yield Tensor(f"params/{ours}/layer_scale", f"{theirs}.layer_scale", CHANNELS)


def _layer_norm(path: str, key: str) -> Iterator[Tensor]:
    yield Tensor(f"params/{path}/scale", f"{key}.weight", VECTOR)
    yield Tensor(f"params/{path}/bias", f"{key}.bias", VECTOR)


def _resnet_tensors(options: BackboneOptions, prefix: str) -> Iterator[Tensor]:
    norm = partial(_norm, kind=options.norm)
    yield Tensor("params/backbone/stem/conv1/kernel", f"{prefix}conv1.weight", CONV)
    yield from norm("backbone/stem/norm1", f"{prefix}bn1")
    for stage, blocks in enumerate(BLOCKS[options.depth]):
        for i in range(blocks):
            ours, theirs = (
                f"backbone/stage{stage + 2}/block{i + 1}",
                f"{prefix}layer{stage + 1}.{i}",
            )
            for j in range(1, 4 if options.depth >= 50 else 3):
                yield Tensor(f"params/{ours}/conv{j}/kernel", f"{theirs}.conv{j}.weight", CONV)
                yield from norm(f"{ours}/norm{j}", f"{theirs}.bn{j}")
            if i == 0 and (stage or options.depth >= 50):
                key = f"{theirs}.downsample"
                yield Tensor(f"params/{ours}/conv_shortcut/kernel", f"{key}.0.weight", CONV)
                yield from norm(f"{ours}/norm_shortcut", f"{key}.1")


def _layer(path: str, key: str, layout: Layout) -> list[Tensor]:
    return [
        Tensor(f"params/{path}/kernel", f"{key}.weight", layout),
        Tensor(f"params/{path}/bias", f"{key}.bias", VECTOR),
    ]


def _conv_norm(path: str, key: str, kind: str, norm: str) -> list[Tensor]:
    """Return the tensors of a convolution and its norm.

    `norm` is a suffix of the layer's path if it begins with "_", else the name of a sibling.
    """
    if kind == "none":
        return _layer(path, f"{key}.0", CONV)
    beside = path + norm if norm.startswith("_") else f"{path.rpartition('/')[0]}/{norm}"
    conv = Tensor(f"params/{path}/kernel", f"{key}.0.weight", CONV)
    return [conv, *_norm(beside, f"{key}.1", kind)]


def _norm(path: str, key: str, kind: str) -> Iterator[Tensor]:
    affine = "batch_stats" if kind == "frozen" else "params"
    for collection, ours, theirs in (
        (affine, "scale", "weight"),
        (affine, "bias", "bias"),
        ("batch_stats", "mean", "running_mean"),
        ("batch_stats", "var", "running_var"),
    ):
        yield Tensor(f"{collection}/{path}/norm/{ours}", f"{key}.{theirs}", VECTOR)


def rename(state: Mapping[str, Array]) -> dict[str, Array]:
    """Return the tensors with the names of torchvision 0.13 and later."""
    renamed = {}
    for key, value in state.items():
        for old, new in RENAMED:
            key = re.sub(old, new, key)
        renamed[key] = value
    return renamed


def guess_arch(state: Mapping[str, Array]) -> str:
    """Return torchvision's name of a model from its tensors, after `rename`.

    Raises UserError if they are not those of a known model.
    """
    if "conv1.weight" in state:
        return f"resnet{_guess_depth(state, '')}"
    if "features.1.0.layer_scale" in state:
        return "convnext_tiny"
    if "backbone.body.conv1.weight" not in state:
        raise UserError(
            "expected weights of torchvision's ResNets, ConvNeXt-T, Faster, Mask or Keypoint "
            "R-CNNs; there is no conv1"
        )
    depth = _guess_depth(state, "backbone.body.")
    kinds = {
        "keypoint": f"{KEYPOINT_LOGITS}.weight",
        "mask": "roi_heads.mask_predictor.mask_fcn_logits.weight",
    }
    kind = next((kind for kind, key in kinds.items() if key in state), "faster")
    second = "backbone.fpn.inner_blocks.0.1.weight" in state
    return f"{kind}rcnn_resnet{depth}_fpn{'_v2' if second else ''}"


# Of a backbone, whose heads are trained here: those of new configs.
_NEW_HEADS = {"roi": RoiOptions(aligned=True), "mask_head": MaskHeadOptions(exact=True)}


def arch_options(arch: str) -> MaskRCNNOptions:
    """Return the options of a model by torchvision's name; those of a backbone alone are a Mask
    R-CNN's on it. Raises UserError for an unknown name.
    """
    if arch == "convnext_tiny":
        return MaskRCNNOptions(backbone=BackboneOptions(name=arch), **_NEW_HEADS)
    pattern = r"(?:(mask|faster|keypoint)rcnn_)?resnet(18|34|50|101)(?:_fpn(_v2)?)?"
    found = re.fullmatch(pattern, arch)
    if found is None or bool(found[1]) != ("_fpn" in arch):
        raise UserError(
            f"--arch {arch!r} must be maskrcnn_, fasterrcnn_ or keypointrcnn_resnet50_fpn, each "
            "also with _v2 and with resnet18, 34 and 101, or such a resnet or convnext_tiny alone"
        )
    kind, depth, second = found[1], int(found[2]), bool(found[3])
    # V2 models train their batch norms; those of V1 are constants.
    norm = "batch" if second else "none"
    if kind is None:
        return MaskRCNNOptions(backbone=BackboneOptions(depth=depth, norm="batch"), **_NEW_HEADS)
    return MaskRCNNOptions(
        backbone=BackboneOptions(depth=depth, norm="batch" if second else "frozen"),
        fpn=FpnOptions(norm=norm),
        rpn=RpnOptions(convs=2 if second else 1),
        box_head=BoxHeadOptions(convs=4, fcs=1, norm=norm) if second else BoxHeadOptions(),
        mask_head=MaskHeadOptions(enabled=kind == "mask", norm=norm),
    )


def _guess_depth(state: Mapping[str, Array], prefix: str) -> int:
    def blocks(stage: int) -> int:
        start = f"{prefix}layer{stage}."
        return len({key[len(start) :].split(".")[0] for key in state if key.startswith(start)})

    found = tuple(map(blocks, range(1, 5)))
    bottleneck = f"{prefix}layer1.0.conv3.weight" in state
    for depth, known in BLOCKS.items():
        if known == found and (depth >= 50) == bottleneck:
            return depth
    raise UserError(f"unknown ResNet: stages of {found} blocks")


def to_variables(
    state: Mapping[str, Array], tensors: list[Tensor], unused: tuple[str, ...] = ()
) -> dict[str, Array]:
    """Return our tensors by path. Raises UserError listing missing and unexpected tensors.

    Unexpected keys that match DROPPED or a pattern of `unused` are ignored.
    """
    patterns = [DROPPED, *(compile_pattern(pattern, "--unused") for pattern in unused)]
    check_tensors(
        state,
        {tensor.key: None for tensor in tensors},
        lambda key: any(pattern.search(key) for pattern in patterns),
    )
    return {t.path: np.ascontiguousarray(t.layout.to_ours(state[t.key])) for t in tensors}


def to_state_dict(variables: Mapping[str, Array], tensors: list[Tensor]) -> dict[str, Array]:
    """Return torchvision's tensors by key from ours by path; the inverse of `to_variables`."""
    return {t.key: np.ascontiguousarray(t.layout.to_theirs(variables[t.path])) for t in tensors}
