"""Prediction with a trained model: a `Result` in pixels of the image, for images of any size."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, overload, runtime_checkable

import numpy as np

from mtl_jax.attributes.base import Attribute
from mtl_jax.data.records import Category
from mtl_jax.errors import UserError, suggest
from mtl_jax.images.decode import Levels, decode, to_channels
from mtl_jax.images.geometry import Geometry, Size, covered_box
from mtl_jax.images.resize import ResizeOptions, resize_and_pad, resize_geometry
from mtl_jax.inference.times import Times
from mtl_jax.results import Result
from mtl_jax.types import Detections, Inputs

Image = str | Path | np.ndarray
Input = TypeVar("Input")
Output = TypeVar("Output")
CONFIDENT = 0.5  # minimum score of drawn detections without a threshold
DECODERS = 2  # threads that read ahead; OpenCV releases the GIL while it decodes


@runtime_checkable
class LoadedRun(Protocol):
    """A trained model with its options, as returned by `runs.loading.load_run`."""

    @property
    def resize(self) -> ResizeOptions: ...

    @property
    def channels(self) -> int: ...

    @property
    def levels(self) -> Levels: ...

    @property
    def categories(self) -> Sequence[Category]: ...

    @property
    def attributes(self) -> Sequence[Attribute]: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def exact_masks(self) -> bool: ...

    @property
    def propose(self) -> Callable[[Inputs], Inputs] | None:
        """Add proposals to a batch; None if the model requires none."""
        ...

    def predict(self, inputs: Inputs, /) -> Detections:
        """Detect objects in one batch of static shape, of NumPy arrays, and return NumPy arrays."""
        ...


class _Placed(NamedTuple):
    """An image, with the size of its padded image and its geometry there."""

    position: int  # among the inputs
    image: np.ndarray
    padded_size: Size
    geometry: Geometry


class Predictor:
    """Detects objects: `Predictor.from_checkpoint("RUN")("photo.jpg")` returns a `Result`.

    An image is a path or an array: uint8 `[H, W, 3]` in RGB order, `[H, W]` for gray, or
    `[H, W, C]` with the model's channels. Detections below `score_threshold` or of classes not in
    `classes` are not returned. Without a threshold, all detections are returned, and `draw` shows
    those with a score of at least 0.5. `times` accumulates the durations of the parts; `name`
    identifies what the results depend on. Raises UserError if the model does not have a class, or
    if the threshold is not between 0 and 1.
    """

    def __init__(
        self,
        run: LoadedRun,
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        name: str = "",
    ):
        if score_threshold is not None and not 0 <= score_threshold <= 1:
            raise UserError(f"threshold must be between 0 and 1, got {score_threshold:g}")
        self._run, self.name = run, name
        self._score_threshold = score_threshold
        self._classes = None if classes is None else _numbers(run.categories, classes)
        self._compiled: set[tuple[int, Size]] = set()  # (batch size, padded size)
        self.times = Times()

    @classmethod
    def from_checkpoint(
        cls,
        run: str | Path,
        step: str | int = "best",
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        overrides: Sequence[str] = (),
    ) -> "Predictor":
        """Load the model of a run folder or of a one-file model.

        `step` is `best`, `latest` or a number. `overrides` change its config, for example
        `--config.eval.flip=True`. Raises UserError if it cannot be loaded.
        """
        # Imported here because it imports jax and the models.
        from mtl_jax.runs.loading import load_run

        loaded = load_run(run, step, overrides)
        name = f"{run} {loaded.version} {score_threshold} {classes} {list(overrides)}"
        return cls(loaded, score_threshold, classes, name)

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        overrides: Sequence[str] = (),
        sha256: str | None = None,
    ) -> "Predictor":
        """Load public weights by name, such as `maskrcnn_resnet50_fpn_v2`, or a one-file model by
        its address, `https://...` or `hf://OWNER/REPO/FILE`, whose SHA-256 is checked if given.

        They are downloaded on first use. The other arguments are those of `from_checkpoint`. Raises
        UserError if they are unknown or cannot be downloaded.
        """
        from mtl_jax.convert.model_files import find_model

        found = find_model(name, sha256)
        return cls.from_checkpoint(found, "best", score_threshold, classes, overrides)

    @property
    def categories(self) -> Sequence[Category]:
        """The classes that the model detects, with the ids of its training data."""
        return self._run.categories

    @property
    def attributes(self) -> Sequence[Attribute]:
        """The attributes that the model predicts for each object."""
        return self._run.attributes

    @overload
    def __call__(self, image: Image) -> Result: ...

    @overload
    def __call__(self, image: Sequence[Image]) -> list[Result]: ...

    def __call__(self, image: Image | Sequence[Image]) -> Result | list[Result]:
        """Detect objects in one image, or in a list of images in batches.

        Raises UserError if an image cannot be read, and TypeError for any other type.
        """
        single = isinstance(image, str | Path | np.ndarray)
        if not single and not isinstance(image, Sequence):
            expected = "a path, a uint8 array [H, W, C], or a list of these"
            raise TypeError(f"image must be {expected}, got {type(image).__name__}")
        images: Sequence[Image] = [image] if single else image
        results: dict[int, Result] = {}
        for position, result in self.predict_files(images, 1 if single else None):
            if isinstance(result, Exception):
                raise UserError(f"{_name(images[position], position)}: {result}")
            results[position] = result
        ordered = [results[position] for position in range(len(images))]
        return ordered[0] if single else ordered

    def predict_files(
        self, images: Iterable[Image], batch_size: int | None = None
    ) -> Iterator[tuple[int, Result | Exception]]:
        """Yield each image's position and its result, or the error if it cannot be read.

        Images with the same padded size share batches, so their order may change; only a few are in
        memory at a time. The last batch of a padded size is filled with rows that are not valid, so
        that all batches have the same shape.
        """
        size = batch_size or self._run.batch_size
        waiting: dict[Size, list[_Placed]] = defaultdict(list)
        for position, pixels in enumerate(_read_ahead(self._read, images)):
            if isinstance(pixels, Exception):
                yield position, pixels
                continue
            placed = self._place(position, pixels)
            waiting[placed.padded_size].append(placed)
            if len(waiting[placed.padded_size]) == size:
                yield from self._predict(waiting.pop(placed.padded_size), size)
        for rest in waiting.values():
            yield from self._predict(rest, size)

    def predict_frames(self, frames: Iterable[np.ndarray]) -> Iterator[Result]:
        """Yield each frame's result in order, with one batch in memory at a time.

        A frame with another padded size than the one before starts a new batch. Raises ValueError
        if a frame is not a valid image for the model.
        """
        size = self._run.batch_size
        placed = (self._place(i, self._check(frame)) for i, frame in enumerate(frames))
        for _, alike in groupby(placed, key=lambda one: one.padded_size):
            while group := list(islice(alike, size)):
                for _, result in self._predict(group, size):
                    yield result

    def _read(self, image: Image) -> np.ndarray | Exception:
        with self.times.measure("decode"):
            try:
                if isinstance(image, np.ndarray):
                    return self._check(image)
                return decode(image, self._run.channels, levels=self._run.levels)
            except (ValueError, OSError) as error:
                return error

    def _check(self, image: np.ndarray) -> np.ndarray:
        """Return an array with the model's channels. Raises ValueError if it is not an image."""
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or 0 in image.shape:
            shape = " x ".join(map(str, image.shape))
            raise ValueError(
                f"expected a uint8 array, height x width x channels, got {shape} {image.dtype}"
            )
        return to_channels(image, self._run.channels)

    def _place(self, position: int, image: np.ndarray) -> _Placed:
        padded_size, geometry = resize_geometry(image.shape[0], image.shape[1], self._run.resize)
        return _Placed(position, image, padded_size, geometry)

    def _predict(self, group: list[_Placed], size: int) -> Iterator[tuple[int, Result]]:
        shape = (size, group[0].padded_size)
        new = shape not in self._compiled
        inputs = self._inputs(group, size)
        if self._run.propose is not None:
            with self.times.measure("first" if new else "propose"):
                inputs = self._run.propose(inputs)
        with self.times.measure("first" if new else "infer"):
            detections = self._run.predict(inputs)
        self._compiled.add(shape)
        self.times.later += 0 if new else len(group)
        threshold = self._score_threshold
        for row, placed in enumerate(group):
            height, width = placed.image.shape[:2]
            yield (
                placed.position,
                Result.from_detections(
                    detections,
                    row,
                    placed.geometry,
                    height,
                    width,
                    categories=self._run.categories,
                    declared=self._run.attributes,
                    min_score=0.0 if threshold is None else threshold,
                    draw_score=CONFIDENT if threshold is None else threshold,
                    classes=self._classes,
                    exact_masks=self._run.exact_masks,
                    image=placed.image,
                ),
            )

    def _inputs(self, group: list[_Placed], size: int) -> Inputs:
        padded_size = group[0].padded_size
        dtype = self._run.resize.dtype
        pixels = np.zeros((size, *padded_size, self._run.channels), dtype)
        sizes = np.ones((size, 2), np.float32)
        for row, (_, image, _, geometry) in enumerate(group):
            pixels[row] = resize_and_pad(image, padded_size, geometry, dtype)
            x1, y1, x2, y2 = covered_box(image.shape[0], image.shape[1], padded_size, geometry)
            sizes[row] = y2 - y1, x2 - x1
        return Inputs(pixels, sizes, np.arange(size) < len(group))


def _numbers(categories: Sequence[Category], names: Sequence[str]) -> frozenset[int]:
    """Return the model's indices, 1 .. K-1, of classes by their names."""
    known = [category.name for category in categories]
    for name in names:
        if name not in known:
            hint = suggest(name, known) or f"; expected one of {', '.join(known)}"
            raise UserError(f"the model has no class {name!r}{hint}")
    return frozenset(known.index(name) + 1 for name in names)


def _read_ahead(read: Callable[[Input], Output], items: Iterable[Input]) -> Iterator[Output]:
    """Map `read` over `items` in order, in threads that are a few items ahead."""
    with ThreadPoolExecutor(DECODERS) as pool:
        pending: deque[Any] = deque()
        for item in items:
            pending.append(pool.submit(read, item))
            if len(pending) > 2 * DECODERS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _name(image: Image, position: int) -> str:
    return f"image {position}" if isinstance(image, np.ndarray) else str(image)
