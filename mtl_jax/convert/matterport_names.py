"""Conversion of matterport Mask_RCNN's tensors to ours.

Source: Mask_RCNN 2.1, `mrcnn/model.py`, and MTL_MRCNN's `model.py`. Tensors that our layers do not
have are folded into others: biases of convolutions into the frozen norms after them, the heads'
frozen norms into the convolutions before them, the two logits of background and object into their
difference.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from mtl_jax.convert.weight_files import check_tensors
from mtl_jax.errors import UserError
from mtl_jax.layers.resnet import BLOCKS

Array = np.ndarray
State = Mapping[str, Array]

EPSILON = 1e-3  # Keras's, of batch norms
WIDTH = 64  # features of the stem
ATTRIBUTE_KERNELS = (3, 3, 5)
ATTRIBUTE_LAYERS = (
    ("mrcnn_pos1", "mrcnn_class_bn122"),
    ("mrcnn_class_conv2111", "mrcnn_pos1_bn1"),
    ("mrcnn_pos1_conv3", "mrcnn_pos1_bn3"),
)
ATTRIBUTE_OUTPUT = "mrcnn_pos_logits"
# MTL_MRCNN's two outputs a, b are yaw = 90 - 180 a and pitch = 180 b - 90, in degrees.
ATTRIBUTE_MAX = 180.0
ATTRIBUTE_SIGNS = np.array([-1.0, 1.0])
ATTRIBUTE_SCALE = 45.0  # degrees per unit of our head's outputs
# The order of deltas: (dy, dx, dh, dw) to (dx, dy, dw, dh).
XY = [1, 0, 3, 2]


class Sizes(NamedTuple):
    """Sizes of a model, from the shapes in its weight file."""

    depth: int
    channels: int  # of the pyramid
    rpn_channels: int
    anchors: int  # per cell
    pool_size: int
    features: int  # of the box head
    classes: int  # including the background
    mask_channels: int  # 0: no mask head
    attribute_channels: int  # 0: no attribute head, or it is ignored


class Part(NamedTuple):
    """Shapes of their tensors by key, and the function that converts these tensors to ours."""

    shapes: dict[str, tuple[int, ...]]
    convert: Callable[[State], dict[str, Array]]


def guess_sizes(state: State, attributes: bool) -> Sizes:
    """Return the sizes of a model. Raises UserError if the tensors are not those of a Mask R-CNN.

    `attributes` is whether to read the attribute head, if there is one.
    """
    for layer in ("conv1", "fpn_p2", "rpn_class_raw", "mrcnn_class_conv1"):
        if f"{layer}/kernel" not in state or state[f"{layer}/kernel"].ndim != 4:
            raise UserError(f"not weights of matterport's Mask R-CNN: missing convolution {layer}")

    def features(key: str) -> int:
        return state[key].shape[-1] if key in state and state[key].ndim else 0

    classes = features("mrcnn_class_logits/kernel")
    if classes < 2:
        raise UserError("not weights of matterport's Mask R-CNN: no classes in mrcnn_class_logits")
    if attributes and classes != 2 and features(f"{ATTRIBUTE_OUTPUT}/kernel"):
        raise UserError(
            f"{ATTRIBUTE_OUTPUT} has separate attributes for each of {classes - 1} classes, which"
            " is not supported; ignore the attribute head with --unused '^mrcnn_pos'"
            " '^mrcnn_class_(bn122|conv2111)/'"
        )
    return Sizes(
        depth=_guess_depth(state),
        channels=features("fpn_p2/kernel"),
        rpn_channels=state["rpn_class_raw/kernel"].shape[2],
        anchors=features("rpn_class_raw/kernel") // 2,
        pool_size=state["mrcnn_class_conv1/kernel"].shape[0],
        features=features("mrcnn_class_conv1/kernel"),
        classes=classes,
        mask_channels=features("mrcnn_mask_conv1/kernel"),
        attribute_channels=features("mrcnn_pos1/kernel") if attributes else 0,
    )


def _guess_depth(state: State) -> int:
    def blocks(stage: int) -> int:
        start, end = f"res{stage}", "_branch2a/kernel"
        return sum(key.startswith(start) and key.endswith(end) for key in state)

    found = tuple(map(blocks, range(2, 6)))
    for depth in (50, 101):
        if BLOCKS[depth] == found:
            return depth
    raise UserError(f"the backbone must be a ResNet-50 or ResNet-101, got stages of {found} blocks")


def to_variables(state: State, sizes: Sizes, unused: Callable[[str], bool]) -> dict[str, Array]:
    """Return our tensors by path.

    Raises UserError listing tensors that are missing, unexpected or of another shape. Unexpected
    keys for which `unused` returns True are ignored.
    """
    check_tensors(state, model_shapes(sizes), unused)
    return {
        path: np.ascontiguousarray(tensor, np.float32)
        for part in model_parts(sizes)
        for path, tensor in part.convert(state).items()
    }


def model_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model's tensors in their file, by key."""
    return {key: shape for part in model_parts(sizes) for key, shape in part.shapes.items()}


def model_parts(sizes: Sizes) -> Iterator[Part]:
    """Yield the parts of a model."""
    yield from _backbone_parts(sizes.depth)
    wide = sizes.channels
    for level in (2, 3, 4, 5):
        inputs = WIDTH * 2**level  # of C2 .. C5: 256 .. 2048
        yield _layer(f"fpn/lateral{level}", f"fpn_c{level}p{level}", (1, 1, inputs, wide))
        yield _layer(f"fpn/output{level}", f"fpn_p{level}", (3, 3, wide, wide))
    hidden = sizes.rpn_channels
    yield _layer("rpn/conv1", "rpn_conv_shared", (3, 3, wide, hidden))
    yield _layer("rpn/objectness", "rpn_class_raw", (1, 1, hidden, 2 * sizes.anchors), _difference)
    yield _layer("rpn/deltas", "rpn_bbox_pred", (1, 1, hidden, 4 * sizes.anchors), _deltas)
    side, dense = sizes.pool_size, sizes.features
    yield _folded("box_head/fc1", "mrcnn_class_{}1", (side, side, wide, dense), _dense)
    yield _folded("box_head/fc2", "mrcnn_class_{}2", (1, 1, dense, dense), _dense)
    yield _layer("box_head/class_logits", "mrcnn_class_logits", (dense, sizes.classes))
    yield _layer("box_head/box_deltas", "mrcnn_bbox_fc", (dense, 4 * sizes.classes), _deltas)
    if sizes.mask_channels:
        yield from _mask_parts(sizes)
    if sizes.attribute_channels:
        yield from _attribute_parts(sizes)


def _backbone_parts(depth: int) -> Iterator[Part]:
    yield _conv_norm("backbone/stem", "1", "conv1", "bn_conv1", (7, 7, 3, WIDTH))
    inputs = WIDTH
    for stage, blocks in enumerate(BLOCKS[depth], start=2):
        inner = WIDTH * 2 ** (stage - 2)
        for i in range(blocks):
            path = f"backbone/stage{stage}/block{i + 1}"
            block = f"{stage}{chr(ord('a') + i)}_branch"
            shapes = {
                "1": ("2a", (1, 1, inputs, inner)),
                "2": ("2b", (3, 3, inner, inner)),
                "3": ("2c", (1, 1, inner, 4 * inner)),
                "_shortcut": ("1", (1, 1, inputs, 4 * inner)),
            }
            for ours, (theirs, shape) in shapes.items():
                if ours != "_shortcut" or i == 0:
                    layer = f"{block}{theirs}"
                    yield _conv_norm(path, ours, f"res{layer}", f"bn{layer}", shape)
            inputs = 4 * inner


def _mask_parts(sizes: Sizes) -> Iterator[Part]:
    inputs, wide = sizes.channels, sizes.mask_channels
    for i in range(1, 5):
        yield _folded(f"mask_head/conv{i}", f"mrcnn_mask_{{}}{i}", (3, 3, inputs, wide))
        inputs = wide
    yield Part(
        _layer_shapes("mrcnn_mask_deconv", (2, 2, wide, wide)),
        lambda state: {
            # Keras's kernels of transposed convolutions have outputs before inputs.
            "params/mask_head/deconv/kernel": state["mrcnn_mask_deconv/kernel"].swapaxes(2, 3),
            "params/mask_head/deconv/bias": state["mrcnn_mask_deconv/bias"],
        },
    )
    yield Part(
        _layer_shapes("mrcnn_mask", (1, 1, wide, sizes.classes)),
        lambda state: {
            "params/mask_head/mask_logits_kernel": state["mrcnn_mask/kernel"][0, 0],
            "params/mask_head/mask_logits_bias": state["mrcnn_mask/bias"],
        },
    )


def _attribute_parts(sizes: Sizes) -> Iterator[Part]:
    """Yield the parts of MTL_MRCNN's head: three convolutions, with norms after the poolings."""
    inputs, wide = sizes.channels, sizes.attribute_channels
    for i, (conv, norm) in enumerate(ATTRIBUTE_LAYERS):
        size = ATTRIBUTE_KERNELS[i]
        yield _conv_norm("attribute_head", f"{i + 1}", conv, norm, (size, size, inputs, wide))
        inputs = wide

    def convert(state: State) -> dict[str, Array]:
        # Two outputs for each of two classes; those of the background are not used.
        kernel, bias = (state[f"{ATTRIBUTE_OUTPUT}/{name}"][..., 2:] for name in ("kernel", "bias"))
        factor = ATTRIBUTE_SIGNS * ATTRIBUTE_MAX / ATTRIBUTE_SCALE
        middle = ATTRIBUTE_SIGNS * ATTRIBUTE_MAX / 2 / ATTRIBUTE_SCALE
        path = "params/attribute_head/head_output"
        return {f"{path}/kernel": kernel * factor, f"{path}/bias": bias * factor - middle}

    yield Part(_layer_shapes(ATTRIBUTE_OUTPUT, (wide, 2 * sizes.classes)), convert)


def _layer_shapes(name: str, kernel: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {f"{name}/kernel": kernel, f"{name}/bias": kernel[-1:]}


def _norm_shapes(name: str, features: int) -> dict[str, tuple[int, ...]]:
    parts = ("gamma", "beta", "moving_mean", "moving_variance")
    return {f"{name}/{part}": (features,) for part in parts}


def _layer(
    path: str,
    name: str,
    shape: tuple[int, ...],
    change: Callable[[Array], Array] = lambda x: x,
) -> Part:
    """Return the part of a layer with kernel and bias; `change` converts both to our order."""
    return Part(
        _layer_shapes(name, shape),
        lambda state: {
            f"params/{path}/{part}": change(state[f"{name}/{part}"]) for part in ("kernel", "bias")
        },
    )


def _conv_norm(path: str, number: str, conv: str, norm: str, shape: tuple[int, ...]) -> Part:
    """Return the part of a convolution and its frozen norm, whose mean is reduced by the bias."""

    def convert(state: State) -> dict[str, Array]:
        ours = f"batch_stats/{path}/norm{number}/norm"
        return {
            f"params/{path}/conv{number}/kernel": state[f"{conv}/kernel"],
            f"{ours}/scale": state[f"{norm}/gamma"],
            f"{ours}/bias": state[f"{norm}/beta"],
            f"{ours}/mean": state[f"{norm}/moving_mean"] - state[f"{conv}/bias"],
            f"{ours}/var": state[f"{norm}/moving_variance"],
        }

    return Part(_layer_shapes(conv, shape) | _norm_shapes(norm, shape[-1]), convert)


def _folded(
    path: str,
    names: str,
    shape: tuple[int, ...],
    change: Callable[[Array], Array] = lambda x: x,
) -> Part:
    """Return the part of a convolution with its frozen norm folded in.

    `names` is the format of both layers' names; it is filled with "conv" and "bn".
    """
    conv, norm = names.format("conv"), names.format("bn")

    def convert(state: State) -> dict[str, Array]:
        variance = state[f"{norm}/moving_variance"].astype(np.float64)
        factor = state[f"{norm}/gamma"] / np.sqrt(variance + EPSILON)
        shift = (state[f"{conv}/bias"] - state[f"{norm}/moving_mean"]) * factor
        return {
            f"params/{path}/kernel": change(state[f"{conv}/kernel"] * factor),
            f"params/{path}/bias": shift + state[f"{norm}/beta"],
        }

    return Part(_layer_shapes(conv, shape) | _norm_shapes(norm, shape[-1]), convert)


def _dense(kernel: Array) -> Array:
    """Return the dense kernel of a convolution over a whole region, cells row by row."""
    return kernel.reshape(-1, kernel.shape[-1])


def _difference(x: Array) -> Array:
    """Replace each anchor's two logits (background, object) by object minus background."""
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    return pairs[..., 1] - pairs[..., 0]


def _deltas(x: Array) -> Array:
    return x.reshape(*x.shape[:-1], -1, 4)[..., XY].reshape(x.shape)
