"""Options of Mask R-CNN. The defaults are those of torchvision's `maskrcnn_resnet50_fpn`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mtl_jax.config.options.backbone import (
    BackboneOptions,
    backbone_faults,
    dtype_faults,
    norm_faults,
)
from mtl_jax.config.options.base import Options, at_least

LEVELS = 5  # P2 .. P6


@dataclass(frozen=True)
class FpnOptions(Options):
    channels: int = 256
    norm: str = "none"


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


@dataclass(frozen=True)
class RoiOptions(Options):
    """RoI pooling, and the sampling of regions for training."""

    sampling_ratio: int = 2
    aligned: bool = False  # True: detectron2's half-pixel shift
    corner_samples: bool = False  # True: one sample per bin, on a grid from corner to corner
    canonical_size: float = 224.0  # a box of this side is pooled from canonical_level
    canonical_level: int = 4
    round_level: bool = False  # True: round the level of a size to the nearest, not down
    samples: int = 512
    positive_fraction: float = 0.25
    positive_iou: float = 0.5
    negative_iou: float = 0.5


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


@dataclass(frozen=True)
class MaskHeadOptions(Options):
    enabled: bool = True
    pool_size: int = 14
    convs: int = 4
    channels: int = 256
    norm: str = "none"


@dataclass(frozen=True)
class AttributeHeadOptions(Options):
    wide: bool = False  # MTL_MRCNN's: pool_size 28, channels 1024, features 0, norm batch
    pool_size: int = 14
    convs: int = 2
    channels: int = 256
    features: int = 256  # of each attribute's hidden layer; 0: none
    dropout: float = 0.0
    norm: str = "none"


@dataclass(frozen=True)
class DetectionOptions(Options):
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100
    min_size: float = 1e-2
    max_candidates: int = 2000  # boxes of all classes above the threshold that enter NMS
    best_class_only: bool = False  # True: only the most probable class of a region is detected


@dataclass(frozen=True)
class LossWeights(Options):
    rpn_objectness: float = 1.0
    rpn_box: float = 1.0
    box_class: float = 1.0
    box_regression: float = 1.0
    mask: float = 1.0


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

    def faults(self) -> Iterator[str]:
        yield from backbone_faults("backbone", self.backbone)
        for name in ("fpn", "box_head", "mask_head", "attribute_head"):
            yield from norm_faults(name, vars(self)[name].norm)
        yield from dtype_faults(self.dtype)
        sizes = self.rpn.anchor_sizes
        counts = {len(level) if isinstance(level, Sequence) else 0 for level in sizes}
        if len(sizes) != LEVELS or len(counts) > 1 or 0 in counts:
            yield (
                f"model.rpn.anchor_sizes is {sizes}; it must be {LEVELS} tuples of equal length, "
                "for P2 to P6, such as ((32,), (64,), (128,), (256,), (512,))"
            )
        for name, part in (("rpn", self.rpn), ("box_head", self.box_head)):
            if len(part.box_weights) != 4:
                yield f"model.{name}.box_weights is {part.box_weights}; it must be four numbers"
            yield from at_least(f"model.{name}.smooth_l1_beta", part.smooth_l1_beta, 0)
        if self.size_divisible % 32:
            yield f"model.size_divisible is {self.size_divisible}; it must be a multiple of 32"
