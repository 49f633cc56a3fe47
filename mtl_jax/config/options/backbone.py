"""Options of a ResNet, and checks that the families share."""

from collections.abc import Sequence
from dataclasses import dataclass

NORMS = ("frozen", "batch", "group", "none")
DEPTHS = (18, 34, 50, 101)


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
    if backbone.depth not in DEPTHS:
        known = ", ".join(map(str, DEPTHS))
        raise ValueError(f"model.{part}.depth {backbone.depth} is none of {known}")


def check_dtype(dtype: str, known: Sequence[str] = ("float32", "bfloat16")) -> None:
    """Raise ValueError where a model's dtype is none of the `known`."""
    if dtype not in known:
        raise ValueError(f"model.dtype {dtype!r} is none of {', '.join(known)}")
