"""The public weights that are fetched by name.

Source: torchvision 0.26, `models/detection` and `models` (address, size, recipe, metrics); the
release v2.0 of matterport's Mask_RCNN (address, size). Neither states a licence of its weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtl_jax.errors import UserError, suggest
from mtl_jax.io.digests import check_digest

_PYTORCH = "https://download.pytorch.org/models"
_RECIPES = "https://github.com/pytorch/vision/tree/main/references"
_NO_LICENCE = (
    "not published; torchvision's code is BSD-3-Clause, and its README refers to the terms of the "
    "training data"
)
_COCO, _IMAGENET = "COCO train2017", "ImageNet-1K"
_MIB = 2**20
# torchvision publishes sizes in MiB. The digest decides whether a file is the right one; the size
# limits what is downloaded.
_ROUNDING = _MIB // 10


_FILES = (".npz", ".pth", ".pt", ".safetensors", ".h5")  # suffixes of files of models


@dataclass(frozen=True)
class Weights:
    """A file of public weights."""

    name: str
    entry: str  # torchvision's name of the entry; '' if it has none
    address: str
    sha256: str  # the first digits, which are part of the file's name; '' if none are published
    size: int  # bytes
    rounding: int  # the size may differ by these bytes
    trained_on: str
    evaluated_on: str
    metrics: Mapping[str, float] = field(default_factory=dict)  # as reported, 0..1
    recipe: str = ""  # how it was trained
    norm_eps: float = 1e-5  # of batch norms
    licence: str = _NO_LICENCE

    @property
    def file_name(self) -> str:
        return self.address.rpartition("/")[2]

    @property
    def is_backbone(self) -> bool:
        """Whether it is a classifier, of which only the backbone can be used."""
        return self.trained_on == _IMAGENET

    @property
    def format(self) -> str:
        """The command of `python -m mtl_jax.convert` that converts the file."""
        return "torchvision" if self.entry else "matterport"

    def check(self, path: Path) -> None:
        """Raise ValueError if a file has another size or digest than these weights."""
        size = path.stat().st_size
        if abs(size - self.size) > self.rounding:
            raise ValueError(f"expected {self.size:,} bytes, got {size:,}")
        if self.sha256:
            check_digest(path, self.sha256)

    def card(self, sha256: str) -> dict[str, Any]:
        """Return what a file with this SHA-256 was trained on, as `runs.origin` stores it."""
        return {
            "licence": self.licence,
            "trained_on": [{"name": self.trained_on}],
            "metrics": [{"split": self.evaluated_on, "values": dict(self.metrics)}]
            if self.metrics
            else [],
            "source": {
                "name": self.entry or self.name,
                "address": self.address,
                "sha256": sha256,
                "recipe": self.recipe,
            },
        }


def _detector(
    name: str,
    entry: str,
    sha256: str,
    mib: float,
    recipe: str,
    norm_eps: float = 1e-5,
    **metrics: float,
) -> Weights:
    file = entry.partition("_Weights")[0].lower()
    return Weights(
        name=name,
        entry=entry,
        address=f"{_PYTORCH}/{file}_coco-{sha256}.pth",
        sha256=sha256,
        size=round(mib * _MIB),
        rounding=_ROUNDING,
        trained_on=_COCO,
        evaluated_on="COCO val2017",
        metrics={f"{kind}/AP": value for kind, value in metrics.items()},
        recipe=recipe,
        norm_eps=norm_eps,
    )


def _backbone(
    name: str, entry: str, sha256: str, mib: float, accuracy: float, recipe: str
) -> Weights:
    file = entry.partition("_Weights")[0].lower()
    return Weights(
        name=name,
        entry=entry,
        address=f"{_PYTORCH}/{file}-{sha256}.pth",
        sha256=sha256,
        size=round(mib * _MIB),
        rounding=_ROUNDING,
        trained_on=_IMAGENET,
        evaluated_on=f"{_IMAGENET} val",
        metrics={"accuracy": accuracy},
        recipe=recipe,
    )


_RESNET = f"{_RECIPES}/classification#resnet"
_NEW = "https://github.com/pytorch/vision/issues/3995"
# torchvision sets the epsilon of COCO_V1 of Mask, Faster and Keypoint R-CNN to 0 (version 1 only).
# Names are this library's: the network's, of its best entry. Older entries have torchvision's name.
TABLE = (
    _detector(
        "maskrcnn_resnet50_fpn",
        "MaskRCNN_ResNet50_FPN_Weights.COCO_V1",
        "bf2d0c1e",
        169.84,
        f"{_RECIPES}/detection#mask-r-cnn",
        norm_eps=0.0,
        box=0.379,
        mask=0.346,
    ),
    _detector(
        "maskrcnn_resnet50_fpn_v2",
        "MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1",
        "73cbd019",
        177.219,
        "https://github.com/pytorch/vision/pull/5773",
        box=0.474,
        mask=0.418,
    ),
    _detector(
        "fasterrcnn_resnet50_fpn",
        "FasterRCNN_ResNet50_FPN_Weights.COCO_V1",
        "258fb6c6",
        159.743,
        f"{_RECIPES}/detection#faster-r-cnn-resnet-50-fpn",
        norm_eps=0.0,
        box=0.37,
    ),
    _detector(
        "fasterrcnn_resnet50_fpn_v2",
        "FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1",
        "dd69338a",
        167.104,
        "https://github.com/pytorch/vision/pull/5763",
        box=0.467,
    ),
    _detector(
        "keypointrcnn_resnet50_fpn",
        "KeypointRCNN_ResNet50_FPN_Weights.COCO_V1",
        "fc266e95",
        226.054,
        f"{_RECIPES}/detection#keypoint-r-cnn",
        norm_eps=0.0,
        box=0.546,
        keypoints=0.65,
    ),
    _detector(
        "KeypointRCNN_ResNet50_FPN_Weights.COCO_LEGACY",
        "KeypointRCNN_ResNet50_FPN_Weights.COCO_LEGACY",
        "9f466800",
        226.054,
        "https://github.com/pytorch/vision/issues/1606",
        box=0.506,
        keypoints=0.611,
    ),
    _backbone("resnet18", "ResNet18_Weights.IMAGENET1K_V1", "f37072fd", 44.661, 0.69758, _RESNET),
    _backbone("resnet34", "ResNet34_Weights.IMAGENET1K_V1", "b627a593", 83.275, 0.73314, _RESNET),
    _backbone(
        "ResNet50_Weights.IMAGENET1K_V1",
        "ResNet50_Weights.IMAGENET1K_V1",
        "0676ba61",
        97.781,
        0.7613,
        _RESNET,
    ),
    _backbone(
        "resnet50",
        "ResNet50_Weights.IMAGENET1K_V2",
        "11ad3fa6",
        97.79,
        0.80858,
        f"{_NEW}#issuecomment-1013906621",
    ),
    _backbone(
        "ResNet101_Weights.IMAGENET1K_V1",
        "ResNet101_Weights.IMAGENET1K_V1",
        "63fe2227",
        170.511,
        0.77374,
        _RESNET,
    ),
    _backbone(
        "resnet101",
        "ResNet101_Weights.IMAGENET1K_V2",
        "cd907fc2",
        170.53,
        0.81886,
        f"{_NEW}#new-recipe",
    ),
    _backbone(
        "convnext_tiny",
        "ConvNeXt_Tiny_Weights.IMAGENET1K_V1",
        "983f1562",
        109.119,
        0.8252,
        f"{_RECIPES}/classification#convnext",
    ),
    Weights(
        name="mask_rcnn_coco",
        entry="",
        address="https://github.com/matterport/Mask_RCNN/releases/download/v2.0/mask_rcnn_coco.h5",
        sha256="",
        size=257557808,
        rounding=0,
        trained_on="COCO",  # of which year and splits is not published, nor an AP
        evaluated_on="",
        recipe="https://github.com/matterport/Mask_RCNN",
        norm_eps=1e-3,
        licence="not published; matterport's code is MIT",
    ),
)


def find(name: str) -> Weights | None:
    """Return the weights of a name, or of one of torchvision's entries; None if there are none."""
    return next((each for each in TABLE if name and name in (each.name, each.entry)), None)


def unknown(name: str) -> UserError:
    """Return the error of a name that is neither a file nor in the table."""
    if "/" in name or Path(name).suffix in _FILES:
        return UserError(f"{name}: no such run folder or file")
    known = [each.name for each in TABLE]
    hint = suggest(name, known) or f"; public weights are {', '.join(known)}"
    return UserError(f"{name}: no such run, file or public weights{hint}")
