"""Options of HyperFace. The defaults are the paper's network on AlexNet and its loss.

The networks of the paper:

R-CNN_Face         fused False, fcs (4096,), no attributes
Multitask_Face     fused False, fcs (4096,)
R-CNN_Gender       as Multitask_Face, detection.enabled False, one attribute; also R-CNN_Pose, ...
HyperFace          the defaults
HyperFace-ResNet   trunk "resnet", fcs ()
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from mtl_jax.config.options.backbone import BackboneOptions, backbone_faults, dtype_faults
from mtl_jax.config.options.base import Options, above, each_at_least, each_fraction, one_of

ALEXNETS = ("paper", "repository")


TRUNKS = ("alexnet", "resnet")


PROPOSALS = ("windows", "fast", "quality", "rpn")  # sources of candidate regions


# Mean shape of 131 faces of HELEN and AFW, made symmetric. The origin is the mean of the points and
# the unit their root-mean-square distance from it. The ears are those of drawn faces. AFLW's order.
FACE_TEMPLATE = (
    *((-1.19, -0.60), (-0.76, -0.82), (-0.24, -0.70), (0.24, -0.70), (0.76, -0.82), (1.19, -0.60)),
    *((-0.90, -0.35), (-0.64, -0.35), (-0.37, -0.31), (0.37, -0.31), (0.64, -0.35), (0.90, -0.35)),
    *((-1.70, 0.00), (-0.29, 0.52), (0.00, 0.34), (0.29, 0.52), (1.70, 0.00)),
    *((-0.54, 0.98), (0.00, 1.03), (0.54, 0.98), (0.00, 1.88)),
)


@dataclass(frozen=True)
class AlexNetOptions(Options):
    variant: str = "paper"  # paper | repository
    width: int = 96  # channels of the first convolution; the others are proportional
    pool2: int = 3  # window size of the second pooling; 2 in the repository's HyperFace


@dataclass(frozen=True)
class WindowOptions(Options):
    """Sliding windows, the candidate regions of proposals "windows"."""

    min_side: float = 40.0  # pixels of the padded image
    growth: float = 1.5  # ratio of each side to the next smaller one
    step: float = 0.25  # distance of neighbouring windows, as a fraction of their side


@dataclass(frozen=True)
class FaceDetectionOptions(Options):
    enabled: bool = True  # False: the whole image is one face with score 1
    proposals: str = "windows"  # windows | fast | quality (selective search) | rpn
    rpn: str = ""  # RUN of a mask_rcnn model whose RPN generates the proposals
    max_proposals: int = 2000  # per image; not used for windows
    score_threshold: float = 0.25  # minimum score of a region
    rounds: int = 2  # of Iterative Region Proposals; 0: none
    max_candidates: int = 64  # highest-scoring regions that enter the rounds
    landmark_nms: bool = True  # False: NMS of regions; a face is its highest-scoring region
    overlap: float = 0.5  # of the smaller landmark box; regions above it are the same face
    nms_iou: float = 0.3  # IoU threshold of region NMS, used if landmark_nms is False
    top_k: int = 5  # a face is the median of at most this many regions
    min_visible: int = 4  # minimum number of landmarks for a face rectangle
    max_detections: int = 50
    chunk: int = 64  # regions per pass through the network


@dataclass(frozen=True)
class FaceLossWeights(Options):
    """Weights of the losses other than the attributes', which have weights of their own: 5
    (landmarks), 5 (pose) and 2 (gender) in the paper.
    """

    detection: float = 1.0
    visibility: float = 0.5


@dataclass(frozen=True)
class HyperFaceOptions(Options):
    trunk: str = "alexnet"  # alexnet | resnet
    alexnet: AlexNetOptions = field(default_factory=AlexNetOptions)
    resnet: BackboneOptions = field(
        default_factory=lambda: BackboneOptions(depth=101, norm="batch")
    )
    fused: bool = True  # False: the heads read only the trunk's last feature map
    fused_channels: int = 192  # of AlexNet's fused feature maps
    pooled: bool = True  # ResNet: global average pooling of the last feature map; False: flattened
    fcs: tuple[int, ...] = (3072,)  # features of the fully connected layers shared by all tasks
    head_features: int = 512
    dropout: float = 0.0  # after each hidden fully connected layer
    input_size: int = 227  # side of a region at the network's input, in pixels
    # True: the positions of hidden landmarks are also trained, if annotated, and all landmarks
    # determine a face's rectangle, not only visible ones. Enable this when visibility is not
    # annotated.
    hidden_points: bool = False
    template: tuple[tuple[float, float], ...] = FACE_TEMPLATE  # mean shape of the landmarks
    windows: WindowOptions = field(default_factory=WindowOptions)
    detection: FaceDetectionOptions = field(default_factory=FaceDetectionOptions)
    loss_weights: FaceLossWeights = field(default_factory=FaceLossWeights)
    pixel_mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # per channel, of pixel values 0..1
    pixel_std: tuple[float, ...] = (0.229, 0.224, 0.225)
    dtype: str = "float32"  # float32 or bfloat16; losses and boxes are always float32

    def faults(self) -> Iterator[str]:
        yield from one_of("model.trunk", self.trunk, TRUNKS)
        d = self.detection
        yield from one_of("model.detection.proposals", d.proposals, PROPOSALS)
        counts = ("max_proposals", "max_candidates", "top_k", "max_detections", "chunk")
        yield from each_at_least("model.detection", d, 1, *counts)
        yield from each_at_least("model.detection", d, 0, "rounds", "min_visible")
        yield from each_fraction("model.detection", d, "score_threshold", "overlap", "nms_iou")
        yield from each_at_least("model", self, 1, "fused_channels", "head_features")
        yield from each_fraction("model", self, "dropout")
        weights = self.loss_weights
        yield from each_at_least("model.loss_weights", weights, 0, *vars(weights))
        yield from one_of("model.alexnet.variant", self.alexnet.variant, ALEXNETS)
        if self.trunk == "alexnet" and self.input_size not in range(67, 1024, 32):
            # Other sizes lead to three feature maps of different sizes, which cannot be fused.
            yield (
                f"model.input_size is {self.input_size}; trunk 'alexnet' requires 67 + 32 n, "
                "such as 131 or 227"
            )
        yield from backbone_faults("resnet", self.resnet)
        yield from dtype_faults(self.dtype)
        yield from above("model.windows.min_side", self.windows.min_side, 0)
        yield from above("model.windows.growth", self.windows.growth, 1)
        yield from above("model.windows.step", self.windows.step, 0)


def proposal_overrides(name: str) -> list[str]:
    """Return the overrides that select proposals: a kind, or the RUN of a mask_rcnn for its RPN."""
    field = "--config.model.detection"
    if name in PROPOSALS:
        return [f"{field}.proposals={name}"]
    return [f"{field}.proposals=rpn", f"{field}.rpn={name}"]
