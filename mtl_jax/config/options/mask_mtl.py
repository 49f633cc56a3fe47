"""Options of MaskMTL. The defaults are those of the published network."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from mtl_jax.config.options.backbone import (
    BackboneOptions,
    backbone_faults,
    dtype_faults,
    norm_faults,
)
from mtl_jax.config.options.base import Options, one_of

SHARINGS = ("hard", "none", "cross_stitch", "soft")


@dataclass(frozen=True)
class ConvTrunkOptions(Options):
    """MaskMTL's convolutions, one a stage."""

    features: tuple[int, ...] = (160, 192, 224, 224, 224)
    norm: str = "batch"
    norm_eps: float = 1e-3  # this and the momentum are Keras's
    norm_momentum: float = 0.99  # of the stages' batch norms; a non-local block's is 0.9
    non_local: tuple[int, ...] = ()  # stages that a non-local block follows

    def faults(self) -> Iterator[str]:
        if not 1 <= len(self.features) <= 5:
            yield f"model.convs.features is {self.features}; it must be one to five numbers"
        stages = range(1, len(self.features) + 1)
        if not set(self.non_local) <= set(stages):
            known = f"{stages.start} to {stages.stop - 1}"
            yield f"model.convs.non_local is {self.non_local}; the stages are {known}"


@dataclass(frozen=True)
class PictureHeadOptions(Options):
    """From a stage's map to an attribute's outputs."""

    pool: str = "flatten"  # flatten: weights of each cell, for one size of canvas | mean
    features: tuple[int, ...] = (896, 896)  # of the hidden layers
    dropout: float = 0.5  # after the first of them; with none, before the outputs

    def faults(self) -> Iterator[str]:
        yield from one_of("model.head.pool", self.pool, ("flatten", "mean"))


@dataclass(frozen=True)
class MaskMTLOptions(Options):
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

    def faults(self) -> Iterator[str]:
        yield from one_of("model.trunk", self.trunk, ("convs", "resnet"))
        yield from one_of("model.sharing", self.sharing, SHARINGS)
        if self.sharing == "cross_stitch" and self.trunk == "resnet":
            yield "model.sharing is 'cross_stitch', which requires model.trunk 'convs'"
        yield from norm_faults("convs", self.convs.norm)
        yield from backbone_faults("backbone", self.backbone)
        yield from dtype_faults(self.dtype, ("float32", "bfloat16", "float64"))
        for name, stage in self.exits:
            if stage not in self.stages:
                known = f"{self.stages[0]} to {self.stages[-1]}"
                yield f"model.exits has {name!r} leave at stage {stage}; the stages are {known}"

    @property
    def stages(self) -> range:
        """The stages that a head may leave at."""
        return range(2, 6) if self.trunk == "resnet" else range(1, len(self.convs.features) + 1)
