"""Options of MaskMTL. The defaults are those of the published network."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from mtl_jax.config.options.backbone import (
    BackboneOptions,
    backbone_faults,
    dtype_faults,
    norm_faults,
)
from mtl_jax.config.options.base import Options, at_least, each_fraction, one_of

SHARINGS = ("hard", "none", "cross_stitch", "soft")


@dataclass(frozen=True)
class ConvTrunkOptions(Options):
    """MaskMTL's convolutions, one per stage."""

    features: tuple[int, ...] = (160, 192, 224, 224, 224)
    norm: str = "batch"
    norm_eps: float = 1e-3  # Keras's defaults, as the momentum
    norm_momentum: float = 0.99  # of the stages' batch norms; 0.9 in a non-local block
    non_local: tuple[int, ...] = ()  # stages followed by a non-local block

    def faults(self) -> Iterator[str]:
        if not 1 <= len(self.features) <= 5 or min(self.features) < 1:
            yield (
                f"model.convs.features is {self.features}; it must be one to five numbers greater "
                "than 0"
            )
        stages = range(1, len(self.features) + 1)
        if not set(self.non_local) <= set(stages):
            known = f"{stages.start} to {stages.stop - 1}"
            yield f"model.convs.non_local is {self.non_local}; stages must be in the range {known}"


@dataclass(frozen=True)
class ImageHeadOptions(Options):
    """Layers from a stage's feature map to the outputs of an attribute."""

    pool: str = "flatten"  # flatten (one weight per cell, fixed image size) | mean
    features: tuple[int, ...] = (896, 896)  # of the hidden layers
    dropout: float = 0.5  # after the first hidden layer; without one, before the output

    def faults(self) -> Iterator[str]:
        yield from one_of("model.head.pool", self.pool, ("flatten", "mean"))
        yield from each_fraction("model.head", self, "dropout")
        if min(self.features, default=1) < 1:
            yield f"model.head.features is {self.features}; it must be numbers greater than 0"


@dataclass(frozen=True)
class MaskMTLOptions(Options):
    """The default is hard sharing: all heads are attached to the last stage of one trunk. With
    `exits` at several stages it is the hierarchical network.
    """

    trunk: str = "convs"  # convs | resnet
    convs: ConvTrunkOptions = field(default_factory=ConvTrunkOptions)
    backbone: BackboneOptions = field(
        default_factory=lambda: BackboneOptions(depth=18, norm="batch")
    )
    sharing: str = "hard"  # hard (one trunk) | none (one per attribute) | cross_stitch | soft
    sharing_weight: float = 1e-3  # soft: weight of the squared distance between trunks' parameters
    exits: tuple[tuple[str, int], ...] = ()  # (attribute, stage); default: the last stage
    head: ImageHeadOptions = field(default_factory=ImageHeadOptions)
    pixel_mean: tuple[float, ...] = (0.0,)  # of pixel values 0..1; for all channels or for each
    pixel_std: tuple[float, ...] = (1.0,)
    # float32 or bfloat16, with losses in float32; or float64, which requires jax_enable_x64, for
    # comparisons with other implementations
    dtype: str = "float32"

    def faults(self) -> Iterator[str]:
        yield from one_of("model.trunk", self.trunk, ("convs", "resnet"))
        yield from one_of("model.sharing", self.sharing, SHARINGS)
        if self.sharing == "cross_stitch" and self.trunk == "resnet":
            yield "model.sharing is 'cross_stitch', which requires model.trunk 'convs'"
        yield from at_least("model.sharing_weight", self.sharing_weight, 0)
        yield from norm_faults("convs", self.convs.norm)
        yield from backbone_faults("backbone", self.backbone)
        yield from dtype_faults(self.dtype, ("float32", "bfloat16", "float64"))
        for name, stage in self.exits:
            if stage not in self.stages:
                known = f"{self.stages[0]} to {self.stages[-1]}"
                yield f"model.exits: stage of {name!r} is {stage}; it must be in the range {known}"

    @property
    def stages(self) -> range:
        """The stages to which a head can be attached."""
        return range(2, 6) if self.trunk == "resnet" else range(1, len(self.convs.features) + 1)
