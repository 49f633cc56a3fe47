"""Options of Mask R-CNN. The defaults are those of torchvision's `maskrcnn_resnet50_fpn`;
`config.defaults.get_default` changes two of them for new configs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mtl_jax.config.options.backbone import (
    BackboneOptions,
    backbone_faults,
    dtype_faults,
    norm_faults,
)
from mtl_jax.config.options.base import (
    Options,
    above,
    at_least,
    between,
    each_at_least,
    each_fraction,
)

LEVELS = 5  # P2 .. P6


@dataclass(frozen=True)
class FpnOptions(Options):
    channels: int = 256
    norm: str = "none"

    def faults(self) -> Iterator[str]:
        yield from each_at_least("model.fpn", self, 1, "channels")
        yield from norm_faults("fpn", self.norm)


@dataclass(frozen=True)
class RpnOptions(Options):
    convs: int = 1
    channels: int = 0  # of the hidden convolutions; 0: as the pyramid
    anchor_sizes: tuple[tuple[float, ...], ...] = ((32,), (64,), (128,), (256,), (512,))  # P2 .. P6
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height / width
    round_anchors: bool = True  # round a cell's anchors to whole pixels
    box_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    positive_iou: float = 0.7
    negative_iou: float = 0.3
    samples: int = 256  # anchors per image in the loss
    positive_fraction: float = 0.5
    smooth_l1_beta: float = 1 / 9
    joint_levels: bool = False  # True: select proposals and apply NMS over all levels together
    pre_nms_train: int = 2000  # proposals per level before NMS; joint_levels: per image
    pre_nms: int = 1000
    post_nms_train: int = 2000  # proposals per image after NMS
    post_nms: int = 1000
    nms_iou: float = 0.7
    min_size: float = 1e-3  # pixels of the padded image
    score_threshold: float = 0.0

    @property
    def anchors_per_cell(self) -> int:
        return len(self.anchor_sizes[0]) * len(self.anchor_ratios)

    def faults(self) -> Iterator[str]:
        counts = ("convs", "samples", "pre_nms_train", "pre_nms", "post_nms_train", "post_nms")
        yield from each_at_least("model.rpn", self, 1, *counts)
        yield from each_at_least("model.rpn", self, 0, "channels", "smooth_l1_beta", "min_size")
        fractions = ("positive_iou", "negative_iou", "nms_iou", "score_threshold")
        yield from each_fraction("model.rpn", self, *fractions)
        yield from _positive_faults("model.rpn", self.samples, self.positive_fraction)
        yield from _weights_faults("model.rpn", self.box_weights)
        sizes, ratios = self.anchor_sizes, self.anchor_ratios
        lengths = {len(level) for level in sizes}
        if len(sizes) != LEVELS or len(lengths) > 1 or min(map(min, sizes), default=0) <= 0:
            yield (
                f"model.rpn.anchor_sizes is {sizes}; it must be {LEVELS} tuples of equal length, "
                "for P2 to P6, such as ((32,), (64,), (128,), (256,), (512,))"
            )
        if min(ratios, default=0) <= 0:
            yield f"model.rpn.anchor_ratios is {ratios}; it must be numbers greater than 0"


@dataclass(frozen=True)
class RoiOptions(Options):
    """RoI pooling, and the sampling of regions for training."""

    sampling_ratio: int = 2
    # True: a region is pooled where it lies, as in detectron2. False: half a cell of the feature
    # map further right and down, as in torchvision.
    aligned: bool = False  # get_default: True
    corner_samples: bool = False  # True: one sample per bin, on a grid from corner to corner
    canonical_size: float = 224.0  # a box of this side is pooled from canonical_level
    canonical_level: int = 4
    round_level: bool = False  # True: round the level of a size to the nearest, not down
    samples: int = 512
    positive_fraction: float = 0.25
    positive_iou: float = 0.5
    negative_iou: float = 0.5

    def faults(self) -> Iterator[str]:
        yield from each_at_least("model.roi", self, 1, "sampling_ratio", "samples")
        yield from each_fraction("model.roi", self, "positive_iou", "negative_iou")
        yield from above("model.roi.canonical_size", self.canonical_size, 0)
        yield from _positive_faults("model.roi", self.samples, self.positive_fraction)


@dataclass(frozen=True)
class BoxHeadOptions(Options):
    pool_size: int = 7
    convs: int = 0
    conv_channels: int = 256
    fcs: int = 2
    fc_features: int = 1024
    norm: str = "none"
    box_weights: tuple[float, ...] = (10.0, 10.0, 5.0, 5.0)
    smooth_l1_beta: float = 1 / 9

    def faults(self) -> Iterator[str]:
        sizes = ("pool_size", "conv_channels", "fc_features")
        yield from each_at_least("model.box_head", self, 1, *sizes)
        yield from each_at_least("model.box_head", self, 0, "convs", "fcs", "smooth_l1_beta")
        yield from norm_faults("box_head", self.norm)
        yield from _weights_faults("model.box_head", self.box_weights)


@dataclass(frozen=True)
class MaskHeadOptions(Options):
    enabled: bool = True
    # True: targets are the coverage of the grid's cells, and a mask is sampled at the pixels'
    # centres in the exact box. False: as torchvision, with the alignment of `roi.aligned` and boxes
    # cut to whole pixels.
    exact: bool = False  # get_default: True
    pool_size: int = 14
    convs: int = 4
    channels: int = 256
    norm: str = "none"

    def faults(self) -> Iterator[str]:
        yield from each_at_least("model.mask_head", self, 1, "pool_size", "channels")
        yield from each_at_least("model.mask_head", self, 0, "convs")
        yield from norm_faults("mask_head", self.norm)


@dataclass(frozen=True)
class AttributeHeadOptions(Options):
    wide: bool = False  # MTL_MRCNN's: pool_size 28, channels 1024, features 0, norm batch
    pool_size: int = 14
    convs: int = 2
    channels: int = 256
    features: int = 256  # of each attribute's hidden layer; 0: none
    dropout: float = 0.0
    norm: str = "none"

    def faults(self) -> Iterator[str]:
        yield from each_at_least("model.attribute_head", self, 1, "pool_size", "channels")
        yield from each_at_least("model.attribute_head", self, 0, "convs", "features")
        yield from each_fraction("model.attribute_head", self, "dropout")
        yield from norm_faults("attribute_head", self.norm)


@dataclass(frozen=True)
class DetectionOptions(Options):
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100
    min_size: float = 1e-2
    max_candidates: int = 2000  # boxes of all classes above the threshold that enter NMS
    best_class_only: bool = False  # True: only the most probable class of a region is detected

    def faults(self) -> Iterator[str]:
        part = "model.detection"
        yield from each_at_least(part, self, 1, "max_detections", "max_candidates")
        yield from each_at_least(part, self, 0, "min_size")
        yield from each_fraction(part, self, "score_threshold", "nms_iou")


@dataclass(frozen=True)
class LossWeights(Options):
    rpn_objectness: float = 1.0
    rpn_box: float = 1.0
    box_class: float = 1.0
    box_regression: float = 1.0
    mask: float = 1.0

    def faults(self) -> Iterator[str]:
        yield from each_at_least("model.loss_weights", self, 0, *vars(self))


@dataclass(frozen=True)
class MaskRCNNOptions(Options):
    backbone: BackboneOptions = field(default_factory=BackboneOptions)
    fpn: FpnOptions = field(default_factory=FpnOptions)
    rpn: RpnOptions = field(default_factory=RpnOptions)
    roi: RoiOptions = field(default_factory=RoiOptions)
    box_head: BoxHeadOptions = field(default_factory=BoxHeadOptions)
    mask_head: MaskHeadOptions = field(default_factory=MaskHeadOptions)
    attribute_head: AttributeHeadOptions = field(default_factory=AttributeHeadOptions)
    detection: DetectionOptions = field(default_factory=DetectionOptions)
    loss_weights: LossWeights = field(default_factory=LossWeights)
    size_divisible: int = 32  # padding beyond the next multiple is masked out; 0: none is
    inclusive_boxes: bool = False  # True: the network's boxes end at the start of the last pixel
    # Of pixel values 0..1; one number for all channels, or one for each.
    pixel_mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    pixel_std: tuple[float, ...] = (0.229, 0.224, 0.225)
    dtype: str = "float32"  # float32 or bfloat16; losses and boxes are always float32

    @property
    def aligned_masks(self) -> bool:
        """Whether mask targets have no shift of half a pixel."""
        return self.roi.aligned or self.mask_head.exact

    def faults(self) -> Iterator[str]:
        yield from backbone_faults("backbone", self.backbone)
        yield from dtype_faults(self.dtype)
        yield from at_least("model.size_divisible", self.size_divisible, 0)
        if self.size_divisible % 32:
            yield f"model.size_divisible is {self.size_divisible}; it must be a multiple of 32"


def _positive_faults(part: str, samples: int, fraction: float) -> Iterator[str]:
    """Yield the faults of the fraction of the samples that are positive."""
    yield from between(f"{part}.positive_fraction", fraction, 0, 1)
    if samples > 0 and 0 <= fraction <= 1 and int(samples * fraction) < 1:
        yield (
            f"{part}.positive_fraction is {fraction}, which leaves no positive one of {samples} "
            f"samples; it must be at least {1 / samples:g}"
        )


def _weights_faults(part: str, weights: Sequence[float]) -> Iterator[str]:
    """Yield a fault if the weights of a box's coordinates are not four positive numbers."""
    if len(weights) != 4 or min(weights) <= 0:
        yield f"{part}.box_weights is {weights}; it must be four numbers greater than 0"
