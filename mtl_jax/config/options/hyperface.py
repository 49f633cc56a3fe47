"""Options of HyperFace. The defaults are the paper's network on AlexNet and its objective.

R-CNN_Face         fused False, fcs (4096,), no attributes
Multitask_Face     fused False, fcs (4096,)
R-CNN_Gender       the same with detection.enabled False and one attribute; so R-CNN_Pose, ...
HyperFace          the defaults
HyperFace-ResNet   trunk "resnet", fcs ()
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from mtl_jax.config.options.backbone import BackboneOptions, backbone_faults, dtype_faults
from mtl_jax.config.options.base import Options, above, at_least, one_of

ALEXNETS = ("paper", "repository")


TRUNKS = ("alexnet", "resnet")


PROPOSALS = ("windows", "fast", "quality", "rpn")  # where a picture is looked at


# The mean of 131 faces of HELEN and AFW, made symmetric, about the points' mean in units of their
# mean distance from it (root of the squares); the ears are drawn faces'. In AFLW's order.
FACE_TEMPLATE = (
    *((-1.19, -0.60), (-0.76, -0.82), (-0.24, -0.70), (0.24, -0.70), (0.76, -0.82), (1.19, -0.60)),
    *((-0.90, -0.35), (-0.64, -0.35), (-0.37, -0.31), (0.37, -0.31), (0.64, -0.35), (0.90, -0.35)),
    *((-1.70, 0.00), (-0.29, 0.52), (0.00, 0.34), (0.29, 0.52), (1.70, 0.00)),
    *((-0.54, 0.98), (0.00, 1.03), (0.54, 0.98), (0.00, 1.88)),
)


@dataclass(frozen=True)
class AlexNetOptions(Options):
    variant: str = "paper"  # paper | repository
    width: int = 96  # features of the first convolution; the others follow
    pool2: int = 3  # side of the second pooling's windows; 2 in the repository's HyperFace


@dataclass(frozen=True)
class WindowOptions(Options):
    """The windows that a picture is searched by."""

    min_side: float = 40.0  # canvas pixels
    growth: float = 1.5  # from each side to the next larger
    step: float = 0.25  # sides between neighbours


@dataclass(frozen=True)
class FaceDetectionOptions(Options):
    enabled: bool = True  # False: the whole picture is one face, of score 1
    proposals: str = "windows"  # windows | fast | quality (selective search) | rpn
    rpn: str = ""  # the RUN of a mask_rcnn whose RPN gives the proposals
    max_proposals: int = 2000  # of a picture, where they are no windows
    score_threshold: float = 0.25  # of a region, to be looked at again and to be found
    rounds: int = 2  # of Iterative Region Proposals; 0: none
    max_candidates: int = 64  # regions that go through the rounds, the best ones
    landmark_nms: bool = True  # False: NMS of the regions, each face as its best region sees it
    overlap: float = 0.5  # of the smaller of two boxes around landmarks that are one face's
    nms_iou: float = 0.3  # of regions, where landmark_nms is False
    top_k: int = 5  # regions whose median a face is
    min_visible: int = 4  # landmarks, for a rectangle by them
    max_detections: int = 50
    chunk: int = 64  # regions that go through the network at a time


@dataclass(frozen=True)
class FaceLossWeights(Options):
    """Beside the attributes' own weights, which the paper has at 5 (landmarks), 5 (pose) and 2
    (gender).
    """

    detection: float = 1.0
    visibility: float = 0.5


@dataclass(frozen=True)
class HyperFaceOptions(Options):
    trunk: str = "alexnet"  # alexnet | resnet
    alexnet: AlexNetOptions = field(default_factory=AlexNetOptions)
    resnet: BackboneOptions = field(default_factory=lambda: BackboneOptions(101, norm="batch"))
    fused: bool = True  # False: the heads read the trunk's last map alone
    fused_channels: int = 192  # of AlexNet's fused maps
    pooled: bool = True  # a ResNet's last map is averaged; False: the heads see each of its cells
    fcs: tuple[int, ...] = (3072,)  # features of the layers that all tasks share
    head_features: int = 512
    dropout: float = 0.0  # after each hidden fully connected layer
    input_size: int = 227  # side that regions are stretched to
    # True: places of hidden points are learnt too, where known, and all points say where a face is,
    # not only those seen. So also where no data says what is seen.
    hidden_points: bool = False
    template: tuple[tuple[float, float], ...] = FACE_TEMPLATE  # of the landmarks
    windows: WindowOptions = field(default_factory=WindowOptions)
    detection: FaceDetectionOptions = field(default_factory=FaceDetectionOptions)
    loss_weights: FaceLossWeights = field(default_factory=FaceLossWeights)
    pixel_mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # of values 0..1
    pixel_std: tuple[float, ...] = (0.229, 0.224, 0.225)
    dtype: str = "float32"  # float32 or bfloat16; losses and boxes are float32 always

    def faults(self) -> Iterator[str]:
        yield from one_of("model.trunk", self.trunk, TRUNKS)
        d = self.detection
        yield from one_of("model.detection.proposals", d.proposals, PROPOSALS)
        for name in ("max_proposals", "max_candidates", "top_k", "max_detections", "chunk"):
            yield from at_least(f"model.detection.{name}", vars(d)[name], 1)
        yield from one_of("model.alexnet.variant", self.alexnet.variant, ALEXNETS)
        if self.trunk == "alexnet" and self.input_size not in range(67, 1024, 32):
            # Elsewhere the three maps that are fused have not one size.
            yield (
                f"model.input_size is {self.input_size}; trunk 'alexnet' requires 67 + 32 n, "
                "as 131 or 227"
            )
        yield from backbone_faults("resnet", self.resnet)
        yield from dtype_faults(self.dtype)
        yield from above("model.windows.min_side", self.windows.min_side, 0)
        yield from above("model.windows.growth", self.windows.growth, 1)
        yield from above("model.windows.step", self.windows.step, 0)


def proposal_overrides(name: str) -> list[str]:
    """Give the changes of a config that take these proposals: a kind, or else an RPN's RUN."""
    field = "--config.model.detection"
    if name in PROPOSALS:
        return [f"{field}.proposals={name}"]
    return [f"{field}.proposals=rpn", f"{field}.rpn={name}"]
