"""The choices of Mask R-CNN and MaskMTL; those of HyperFace are in `hyperface_options`.

A Mask R-CNN's are by default torchvision's `maskrcnn_resnet50_fpn`, value by value, a MaskMTL's its
published network.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mtl_jax.layers.norm import NORMS
from mtl_jax.layers.resnet import BLOCKS

LEVELS = 5  # P2 .. P6


@dataclass(frozen=True)
class BackboneOptions:
    depth: int = 50  # 18, 34, 50 or 101
    width: int = 64  # features of the stem and of the first stage
    norm: str = "frozen"  # frozen, batch, group or none
    norm_eps: float = 1e-5
    stride_in_1x1: bool = False  # True: Caffe's and matterport's bottleneck
    pool_same: bool = False  # True: the stem's pooling is padded as Keras's "same", at the end


def check_norm(part: str, norm: str) -> None:
    """Raise ValueError that names the field where a part of a model has an unknown norm."""
    if norm not in NORMS:
        raise ValueError(f"model.{part}.norm {norm!r} is none of {', '.join(NORMS)}")


def check_backbone(part: str, backbone: BackboneOptions) -> None:
    """Raise ValueError that names the field where a ResNet is none."""
    check_norm(part, backbone.norm)
    if backbone.depth not in BLOCKS:
        known = ", ".join(map(str, BLOCKS))
        raise ValueError(f"model.{part}.depth {backbone.depth} is none of {known}")


def check_dtype(dtype: str, known: Sequence[str] = ("float32", "bfloat16")) -> None:
    """Raise ValueError where a model's dtype is none of the `known`."""
    if dtype not in known:
        raise ValueError(f"model.dtype {dtype!r} is none of {', '.join(known)}")


@dataclass(frozen=True)
class FpnOptions:
    channels: int = 256
    norm: str = "none"


@dataclass(frozen=True)
class RpnOptions:
    convs: int = 1
    channels: int = 0  # of the hidden convolutions; 0: the pyramid's
    anchor_sizes: tuple[tuple[float, ...], ...] = ((32,), (64,), (128,), (256,), (512,))  # P2 .. P6
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height / width
    round_anchors: bool = True  # a cell's anchors to whole pixels
    box_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    positive_iou: float = 0.7
    negative_iou: float = 0.3
    samples: int = 256  # anchors an image that the loss sees
    positive_fraction: float = 0.5
    smooth_l1_beta: float = 1 / 9
    joint_levels: bool = False  # True: the best of all levels together, and one NMS over them
    pre_nms_train: int = 2000  # proposals a level (or of all, if joint) before NMS
    pre_nms: int = 1000
    post_nms_train: int = 2000  # proposals an image after NMS
    post_nms: int = 1000
    nms_iou: float = 0.7
    min_size: float = 1e-3  # pixels of the canvas
    score_threshold: float = 0.0

    @property
    def anchors_per_cell(self) -> int:
        return len(self.anchor_sizes[0]) * len(self.anchor_ratios)


@dataclass(frozen=True)
class RoiOptions:
    """How regions are pooled, and which of them the heads are trained on."""

    sampling_ratio: int = 2
    aligned: bool = False  # True: detectron2's half-pixel shift
    corner_samples: bool = False  # True: instead one sample a bin, laid from corner to corner
    canonical_size: float = 224.0  # a box of this side is read from canonical_level
    canonical_level: int = 4
    round_level: bool = False  # True: sizes between two levels go to the nearer, not the finer one
    samples: int = 512
    positive_fraction: float = 0.25
    positive_iou: float = 0.5
    negative_iou: float = 0.5


@dataclass(frozen=True)
class BoxHeadOptions:
    pool_size: int = 7
    convs: int = 0
    conv_channels: int = 256
    fcs: int = 2
    fc_features: int = 1024
    norm: str = "none"
    box_weights: tuple[float, ...] = (10.0, 10.0, 5.0, 5.0)
    smooth_l1_beta: float = 1 / 9


@dataclass(frozen=True)
class MaskHeadOptions:
    enabled: bool = True
    pool_size: int = 14
    convs: int = 4
    channels: int = 256
    norm: str = "none"


@dataclass(frozen=True)
class AttributeHeadOptions:
    wide: bool = False  # True: MTL_MRCNN's, of pool_size 28, channels 1024, features 0, norm batch
    pool_size: int = 14
    convs: int = 2
    channels: int = 256
    features: int = 256  # of each attribute's hidden layer; 0: none
    dropout: float = 0.0
    norm: str = "none"


@dataclass(frozen=True)
class DetectionOptions:
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100
    min_size: float = 1e-2
    max_candidates: int = 2000  # boxes of all classes above the threshold that reach NMS
    best_class_only: bool = False  # True: a region may be of its likeliest class alone


@dataclass(frozen=True)
class ViewOptions:
    """Views of a picture at test time, whose detections become one: each of `scales` times the size
    that `data.resize` gives, and with `flip` mirrored too.
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        numbers = all(isinstance(scale, int | float) for scale in self.scales)
        if not self.scales or not numbers or min(self.scales) <= 0:
            raise ValueError(f"eval.scales {self.scales} must be one or more numbers above 0")


@dataclass(frozen=True)
class LossWeights:
    rpn_objectness: float = 1.0
    rpn_box: float = 1.0
    box_class: float = 1.0
    box_regression: float = 1.0
    mask: float = 1.0


@dataclass(frozen=True)
class MaskRCNNOptions:
    backbone: BackboneOptions = field(default_factory=BackboneOptions)
    fpn: FpnOptions = field(default_factory=FpnOptions)
    rpn: RpnOptions = field(default_factory=RpnOptions)
    roi: RoiOptions = field(default_factory=RoiOptions)
    box_head: BoxHeadOptions = field(default_factory=BoxHeadOptions)
    mask_head: MaskHeadOptions = field(default_factory=MaskHeadOptions)
    attribute_head: AttributeHeadOptions = field(default_factory=AttributeHeadOptions)
    detection: DetectionOptions = field(default_factory=DetectionOptions)
    loss_weights: LossWeights = field(default_factory=LossWeights)
    size_divisible: int = 32  # pixels beyond the next multiple are not seen; 0: the whole canvas is
    inclusive_boxes: bool = False  # True: within the network a box ends where its last pixel begins
    pixel_mean: tuple[float, ...] = (
        0.485,
        0.456,
        0.406,
    )  # of values 0..1; one number serves any channels
    pixel_std: tuple[float, ...] = (0.229, 0.224, 0.225)
    dtype: str = "float32"  # float32 or bfloat16; losses and boxes are float32 always

    def __post_init__(self) -> None:
        check_backbone("backbone", self.backbone)
        check_norm("fpn", self.fpn.norm)
        check_norm("box_head", self.box_head.norm)
        check_norm("mask_head", self.mask_head.norm)
        check_norm("attribute_head", self.attribute_head.norm)
        check_dtype(self.dtype)
        sizes = self.rpn.anchor_sizes
        counts = {len(level) if isinstance(level, Sequence) else 0 for level in sizes}
        if len(sizes) != LEVELS or len(counts) > 1 or 0 in counts:
            raise ValueError(
                f"model.rpn.anchor_sizes wants {LEVELS} levels, those of P2 .. P6, each a tuple "
                "of as many sizes, as (32.0,)"
            )
        for name, part in (("rpn", self.rpn), ("box_head", self.box_head)):
            weights = part.box_weights
            if len(weights) != 4:
                raise ValueError(f"model.{name}.box_weights {weights} must be four numbers")
            if part.smooth_l1_beta < 0:
                raise ValueError(f"model.{name}.smooth_l1_beta {part.smooth_l1_beta} is negative")
        if self.size_divisible % 32:
            raise ValueError(
                f"model.size_divisible {self.size_divisible} is no multiple of 32, a cell of P5"
            )


SHARINGS = ("hard", "none", "cross_stitch", "soft")


@dataclass(frozen=True)
class ConvTrunkOptions:
    """MaskMTL's convolutions, one a stage."""

    features: tuple[int, ...] = (160, 192, 224, 224, 224)
    norm: str = "batch"
    norm_eps: float = 1e-3  # this and the momentum are Keras's
    norm_momentum: float = 0.99  # of the stages' batch norms; a non-local block's is 0.9
    non_local: tuple[int, ...] = ()  # stages that a non-local block follows

    def __post_init__(self) -> None:
        if not 1 <= len(self.features) <= 5:
            raise ValueError(f"model.convs.features {self.features} must be one to five numbers")
        if not set(self.non_local) <= set(range(1, len(self.features) + 1)):
            stages = f"1 to {len(self.features)}"
            raise ValueError(
                f"model.convs.non_local {self.non_local} must be among stages {stages}"
            )


@dataclass(frozen=True)
class PictureHeadOptions:
    """From a stage's map to an attribute's outputs."""

    pool: str = "flatten"  # flatten: weights of each cell, for one size of canvas | mean
    features: tuple[int, ...] = (896, 896)  # of the hidden layers
    dropout: float = 0.5  # after the first of them; with none, before the outputs

    def __post_init__(self) -> None:
        if self.pool not in ("flatten", "mean"):
            raise ValueError(f"model.head.pool {self.pool!r} is neither flatten nor mean")


@dataclass(frozen=True)
class MaskMTLOptions:
    """By default hard sharing: all heads leave one trunk at its end. With `exits` at different
    depths it is the hierarchical network.
    """

    trunk: str = "convs"  # convs | resnet
    convs: ConvTrunkOptions = field(default_factory=ConvTrunkOptions)
    backbone: BackboneOptions = field(default_factory=lambda: BackboneOptions(18, norm="batch"))
    sharing: str = "hard"  # a trunk for all | none: one for each attribute | cross_stitch | soft
    sharing_weight: float = 1e-3  # soft: of the squared distance between the trunks' weights
    exits: tuple[tuple[str, int], ...] = ()  # (attribute, stage); the others leave at the last
    head: PictureHeadOptions = field(default_factory=PictureHeadOptions)
    pixel_mean: tuple[float, ...] = (0.0,)  # of values 0..1; one number serves any channels
    pixel_std: tuple[float, ...] = (1.0,)
    # float32 or bfloat16, losses are float32 always; or float64, where jax_enable_x64 is set, to
    # compare with other implementations
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.trunk not in ("convs", "resnet"):
            raise ValueError(f"model.trunk {self.trunk!r} is neither convs nor resnet")
        if self.sharing not in SHARINGS:
            raise ValueError(f"model.sharing {self.sharing!r} is none of {', '.join(SHARINGS)}")
        if self.sharing == "cross_stitch" and self.trunk == "resnet":
            raise ValueError("model.sharing 'cross_stitch' wants model.trunk 'convs'")
        check_norm("convs", self.convs.norm)
        check_backbone("backbone", self.backbone)
        check_dtype(self.dtype, ("float32", "bfloat16", "float64"))
        for name, stage in self.exits:
            if stage not in self.stages:
                known = f"{self.stages[0]} to {self.stages[-1]}"
                raise ValueError(f"model.exits: {name} leaves at {stage}; stages are {known}")

    @property
    def stages(self) -> range:
        """The stages that a head may leave at."""
        return range(2, 6) if self.trunk == "resnet" else range(1, len(self.convs.features) + 1)
