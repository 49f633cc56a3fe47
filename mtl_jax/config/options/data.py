"""Options of the data: where records come from, and how they become batches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mtl_jax.config.options.base import Options, at_least, between, one_of
from mtl_jax.images.resize import ResizeOptions


@dataclass(frozen=True)
class SourceOptions(Options):
    """Where records come from. `format`, `path`, `annotations` and `images` are short for the first
    of `sources`.
    """

    sources: tuple[dict[str, Any], ...] = ()  # a block for each source
    format: str = ""
    path: str = ""
    annotations: str = ""
    images: str = ""
    fractions: tuple[float, ...] = (0.7, 0.15, 0.15)  # train, val, test of what is divided
    split_seed: int = 0
    attribute_keys: Mapping[str, Any] = field(default_factory=dict)  # as labels.LabelReader's keys
    attribute_preset: str = ""  # mtl_mrcnn: its Yaw and Pitch; utkface: FairFace's races as its
    on_error: str = "stop"  # at a faulty record; "skip": list it and leave it out


@dataclass(frozen=True)
class AugmentOptions(Options):
    """What training does to a picture. Each name of a kind is its probability; with all at 0
    nothing is changed.

    The strength of a change is drawn evenly up to `*_strength`.
    """

    flip: float = 0.5  # mirror left and right
    scale: tuple[float, float] = (
        1.0,
        1.0,
    )  # factor on the fitted size; what no longer fits is cropped at random
    mask: float = 0.0  # put masks on the picture's faces, others each time
    brightness: float = 0.0
    brightness_strength: float = 0.2  # added, as a fraction of 255
    contrast: float = 0.0
    contrast_strength: float = 0.3  # change of the distance from the mean, as a fraction
    saturation: float = 0.0  # this and hue: of pictures with three channels
    saturation_strength: float = 0.7  # change as a fraction; -1 is gray
    hue: float = 0.0
    hue_strength: float = 0.02  # of a whole turn of the colour circle
    blur: float = 0.0
    blur_strength: float = 2.0  # Gaussian sigma, in canvas pixels
    motion: float = 0.0
    motion_strength: float = 12.0  # length of the movement, in canvas pixels
    rain: float = 0.0
    rain_strength: float = 0.5  # opacity of a streak; their number follows it
    noise: float = 0.0
    noise_strength: float = 12.0  # Gaussian standard deviation, of 255

    def faults(self) -> Iterator[str]:
        low, high = self.scale
        if not 0 < low <= high:
            yield f"data.augment.scale is {self.scale}; it must be (low, high) with 0 < low <= high"
        for name, value in vars(self).items():
            if name != "scale" and not name.endswith("_strength"):
                yield from between(f"data.augment.{name}", value, 0, 1)


SHORT = ("format", "path", "annotations", "images")  # fields that stand for the first source's
PROPOSALS = ("", "jitter", "fast", "quality")


@dataclass(frozen=True)
class RegionOptions(Options):
    """Training on regions of pictures, each with one thing or none, as HyperFace wants it."""

    proposals: str = ""  # jitter | fast | quality (selective search); "": whole pictures
    per_picture: int = 16  # regions of each picture in an epoch
    positive_fraction: float = 0.5  # of them that show things, where there are any
    turn: float = 0.0  # degrees, at most, that training turns a region in the picture's plane
    cache: str = ""  # folder of what selective search found; "": RUN/proposals
    search_side: int = 400  # the longer side of pictures that selective search looks at, at most

    def faults(self) -> Iterator[str]:
        yield from one_of("data.regions.proposals", self.proposals, PROPOSALS)
        yield from at_least("data.regions.per_picture", self.per_picture, 1)
        yield from at_least("data.regions.search_side", self.search_side, 32)
        yield from between("data.regions.positive_fraction", self.positive_fraction, 0, 1)
        yield from between("data.regions.turn", self.turn, 0, 180)


@dataclass(frozen=True)
class DataOptions(Options):
    """How records become batches."""

    resize: ResizeOptions = field(default_factory=ResizeOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    max_instances: int = 100  # M; of a picture with more the first are kept, crowds last
    min_visible: float = (
        0.1  # an instance of which a crop leaves less of its box, or less than 1 pixel, is dropped
    )
    mask_size: int = 112  # S, on the instance's box; 0: masks of the whole canvas
    channels: int = 3
    workers: int = 2  # threads that make batches, ahead of their need
    processes: bool = False  # processes in their place: for many cores, which Python's lock idles
    regions: RegionOptions = field(default_factory=RegionOptions)
    on_error: str = "stop"  # at a picture that cannot be read; "skip": list it and take another

    def faults(self) -> Iterator[str]:
        yield from one_of("data.on_error", self.on_error, ("stop", "skip"))
        yield from at_least("data.max_instances", self.max_instances, 1)
        yield from at_least("data.workers", self.workers, 1)
        yield from at_least("data.channels", self.channels, 1)
        yield from at_least("data.mask_size", self.mask_size, 0)
