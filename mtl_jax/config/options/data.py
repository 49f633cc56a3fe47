"""Options of the data: sources, augmentation, regions and batches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mtl_jax.config.options.base import Options, at_least, between, one_of
from mtl_jax.errors import UserError
from mtl_jax.images.resize import ResizeOptions


@dataclass(frozen=True)
class SourceOptions(Options):
    """Data sources. `format`, `path`, `annotations` and `images` are short forms of the fields of
    the first of `sources`.
    """

    sources: tuple[dict[str, Any], ...] = ()  # one block per source
    format: str = ""
    path: str = ""
    annotations: str = ""
    images: str = ""
    fractions: tuple[float, ...] = (0.7, 0.15, 0.15)  # of train, val and test
    split_seed: int = 0
    attribute_keys: Mapping[str, Any] = field(default_factory=dict)  # `keys` of LabelReader
    attribute_preset: str = ""  # mtl_mrcnn | utkface; see LabelReader
    on_error: str = "stop"  # on an invalid record: stop | skip (log the record and omit it)
    levels: tuple[int, int] = (0, 65535)  # values of 16-bit images that become 0 and 255
    # Not a field of a config. None: the config is the user's own. Otherwise it is that of a run of
    # somebody else, in which the user named only these paths; see data.datasets.access.
    named: frozenset[str] | None = field(default=None, compare=False)

    def faults(self) -> Iterator[str]:
        if not 0 <= self.levels[0] < self.levels[1] <= 65535:
            yield f"data.levels is {self.levels}; it must be (low, high), 0 <= low < high <= 65535"
        if len(self.fractions) != 3 or min(self.fractions) < 0 or sum(self.fractions) <= 0:
            yield f"data.fractions is {self.fractions}; it must be (train, val, test)"


def unique_names(names: Sequence[tuple[str, str]]) -> list[str]:
    """Return the names of sources, from pairs (name, default name).

    A source without a name takes the default name, with a number appended from the second on.
    Raises UserError if two sources have the same name.
    """
    found: list[str] = []
    for name, usual in names:
        key, number = name or usual, 1
        while key in found:
            if name:
                raise UserError(
                    f"config.data.sources: two sources have the name {name!r}; names must be unique"
                )
            number += 1
            key = f"{usual}-{number}"
        found.append(key)
    return found


@dataclass(frozen=True)
class AugmentOptions(Options):
    """Random augmentation of training images.

    The field named after an augmentation is its probability; 0 turns it off. Its strength is drawn
    uniformly, up to the field `*_strength`.
    """

    flip: float = 0.5  # horizontal
    # Factor on the size after resizing; an image that is then too large is cropped at random.
    scale: tuple[float, float] = (1.0, 1.0)
    mask: float = 0.0  # draw face masks, different ones each time
    brightness: float = 0.0
    brightness_strength: float = 0.2  # added, as a fraction of 255
    contrast: float = 0.0
    contrast_strength: float = 0.3  # relative change of the difference from the mean
    saturation: float = 0.0  # saturation and hue: only images with three channels
    saturation_strength: float = 0.7  # relative change; -1 is gray
    hue: float = 0.0
    hue_strength: float = 0.02  # fraction of the full hue circle
    blur: float = 0.0
    blur_strength: float = 2.0  # Gaussian sigma, in pixels of the resized image
    motion: float = 0.0
    motion_strength: float = 12.0  # length of the motion, in pixels of the resized image
    rain: float = 0.0
    rain_strength: float = 0.5  # opacity of a streak; the number of streaks increases with it
    noise: float = 0.0
    noise_strength: float = 12.0  # Gaussian standard deviation, in pixel values 0..255

    def faults(self) -> Iterator[str]:
        low, high = self.scale
        if not 0 < low <= high:
            yield f"data.augment.scale is {self.scale}; it must be (low, high) with 0 < low <= high"
        for name, value in vars(self).items():
            if name.endswith("_strength"):
                yield from at_least(f"data.augment.{name}", value, 0)
            elif name != "scale":
                yield from between(f"data.augment.{name}", value, 0, 1)


SHORT = ("format", "path", "annotations", "images")  # short forms of the first source's fields
PROPOSALS = ("", "jitter", "fast", "quality")


@dataclass(frozen=True)
class RegionOptions(Options):
    """Training on regions of images with one instance or none each, which HyperFace requires."""

    proposals: str = ""  # jitter | fast | quality (selective search); "": whole images
    per_image: int = 16  # regions per image and epoch
    positive_fraction: float = 0.5  # of an image's regions, if the image has instances
    turn: float = 0.0  # maximum in-plane rotation of a region in training, in degrees
    cache: str = ""  # folder of the proposals of selective search; "": RUN/proposals
    search_side: int = 400  # maximum longer side of an image in selective search, in pixels

    def faults(self) -> Iterator[str]:
        yield from one_of("data.regions.proposals", self.proposals, PROPOSALS)
        yield from at_least("data.regions.per_image", self.per_image, 1)
        yield from at_least("data.regions.search_side", self.search_side, 32)
        yield from between("data.regions.positive_fraction", self.positive_fraction, 0, 1)
        yield from between("data.regions.turn", self.turn, 0, 180)


@dataclass(frozen=True)
class DataOptions(Options):
    """Conversion of records to batches."""

    resize: ResizeOptions = field(default_factory=ResizeOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    max_instances: int = 100  # M; of an image with more, the first are kept, crowds last
    # Minimum fraction of a box's area that an instance must keep after a crop, to be used.
    min_visible: float = 0.1
    mask_size: int = 112  # S, on the instance's box; 0: masks of the whole padded image
    channels: int = 3
    workers: int = 2  # threads that prefetch batches
    processes: bool = False  # processes instead of threads, which the GIL limits on many cores
    regions: RegionOptions = field(default_factory=RegionOptions)
    on_error: str = "stop"  # on an unreadable image: stop | skip (log it and use another image)

    def faults(self) -> Iterator[str]:
        yield from one_of("data.on_error", self.on_error, ("stop", "skip"))
        yield from at_least("data.max_instances", self.max_instances, 1)
        yield from at_least("data.workers", self.workers, 1)
        yield from at_least("data.channels", self.channels, 1)
        yield from at_least("data.mask_size", self.mask_size, 0)
