"""From a run's folder to detections: pictures of any size in, `Result`s in their own pixels out."""

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
from mtl_jax.images.decode import decode, to_channels
from mtl_jax.images.geometry import Geometry, Size, covered_box
from mtl_jax.images.resize import ResizeOptions, resize_and_pad, resize_geometry
from mtl_jax.inference.times import Times
from mtl_jax.results import Result
from mtl_jax.types import Detections, Inputs

Picture = str | Path | np.ndarray
Input = TypeVar("Input")
Output = TypeVar("Output")
CONFIDENT = 0.5  # the least score that is drawn where no threshold is given
DECODERS = 2  # threads that read ahead; OpenCV holds no lock while it decodes


@runtime_checkable
class LoadedRun(Protocol):
    """A trained model and what it was trained with, as `runs.load_run` gives it."""

    @property
    def resize(self) -> ResizeOptions: ...

    @property
    def channels(self) -> int: ...

    @property
    def categories(self) -> Sequence[Category]: ...

    @property
    def attributes(self) -> Sequence[Attribute]: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def propose(self) -> Callable[[Inputs], Inputs] | None:
        """Put proposals into a batch; None of a model that wants none."""
        ...

    def predict(self, inputs: Inputs, /) -> Detections:
        """Detect on one batch of static shape; NumPy in, NumPy out."""
        ...


class _Placed(NamedTuple):
    """A picture, and where it lies on its canvas."""

    position: int  # among the inputs
    image: np.ndarray
    canvas: Size
    geometry: Geometry


class Predictor:
    """Finds things in pictures. `Predictor.from_checkpoint("RUN")("photo.jpg")` gives a `Result`.

    A picture is a path, or pixels: uint8 `[H, W, 3]` in the order RGB, `[H, W]` gray, or
    `[H, W, C]` with the model's channels. Below `score_threshold` nothing is returned; without one
    everything that the model finds is, of which `draw` shows what scores 0.5 and more. With
    `classes` only these are returned. `times` adds up where the time goes; `name` says what the
    results depend on. Raises UserError for a
    class that the model does not know and for a threshold that is no score.
    """

    def __init__(
        self,
        run: LoadedRun,
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        name: str = "",
    ):
        if score_threshold is not None and not 0 <= score_threshold <= 1:
            raise UserError(f"threshold {score_threshold:g} is not within 0 and 1, as scores are")
        self._run, self.name = run, name
        self._score_threshold = score_threshold
        self._classes = None if classes is None else _numbers(run.categories, classes)
        self._met: set[tuple[int, Size]] = set()  # shapes that are compiled
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
        """Load the model of a run's folder. `step` is `best`, `latest` or a number. `overrides`
        change its config, as `--config.eval.flip=True`. Raises UserError.
        """
        # With it come jax and the models, which a fake run in a test does without.
        from mtl_jax.runs.loading import load_run

        loaded = load_run(run, step, overrides)
        name = f"{run} {step} {score_threshold} {classes} {list(overrides)}"
        return cls(loaded, score_threshold, classes, name)

    @property
    def categories(self) -> Sequence[Category]:
        """The classes of things that the model finds, as its training data number them."""
        return self._run.categories

    @property
    def attributes(self) -> Sequence[Attribute]:
        """What the model says of each thing."""
        return self._run.attributes

    @overload
    def __call__(self, image: Picture) -> Result: ...

    @overload
    def __call__(self, image: Sequence[Picture]) -> list[Result]: ...

    def __call__(self, image: Picture | Sequence[Picture]) -> Result | list[Result]:
        """Detect on one picture, or on a list of them in batches. Raises UserError for one that
        cannot be read, TypeError for what is none.
        """
        single = isinstance(image, str | Path | np.ndarray)
        if not single and not isinstance(image, Sequence):
            wanted = "a path, an array [H, W, C] of uint8 as np.asarray(picture), or a list of such"
            raise TypeError(f"a picture is {wanted}, not {type(image).__name__}")
        pictures: Sequence[Picture] = [image] if single else image
        results: dict[int, Result] = {}
        for position, result in self.predict_files(pictures, 1 if single else None):
            if isinstance(result, Exception):
                raise UserError(f"{_name(pictures[position], position)}: {result}")
            results[position] = result
        ordered = [results[position] for position in range(len(pictures))]
        return ordered[0] if single else ordered

    def predict_files(
        self, pictures: Iterable[Picture], batch_size: int | None = None
    ) -> Iterator[tuple[int, Result | Exception]]:
        """Give each picture's position with its result, or with what was wrong with it, as batches
        fill.

        Pictures of one canvas share batches, so the order may differ from the pictures'; few are in
        memory at a time. The last batch of a canvas is filled up with rows that are not valid, so
        that every batch has one shape.
        """
        size = batch_size or self._run.batch_size
        waiting: dict[Size, list[_Placed]] = defaultdict(list)
        for position, picture in enumerate(_read_ahead(self._read, pictures)):
            if isinstance(picture, Exception):
                yield position, picture
                continue
            placed = self._place(position, picture)
            waiting[placed.canvas].append(placed)
            if len(waiting[placed.canvas]) == size:
                yield from self._predict(waiting.pop(placed.canvas), size)
        for rest in waiting.values():
            yield from self._predict(rest, size)

    def predict_frames(self, frames: Iterable[np.ndarray]) -> Iterator[Result]:
        """Give each frame's result in the order of the frames, a batch of them in memory at a time.

        A frame of another canvas than the one before ends a batch. Raises ValueError for a frame
        that is no picture for this model.
        """
        size = self._run.batch_size
        placed = (self._place(i, self._check(frame)) for i, frame in enumerate(frames))
        for _, alike in groupby(placed, key=lambda one: one.canvas):
            while group := list(islice(alike, size)):
                for _, result in self._predict(group, size):
                    yield result

    def _read(self, picture: Picture) -> np.ndarray | Exception:
        with self.times.measure("decode"):
            try:
                if isinstance(picture, np.ndarray):
                    return self._check(picture)
                return decode(picture, self._run.channels)
            except (ValueError, OSError) as error:
                return error

    def _check(self, picture: np.ndarray) -> np.ndarray:
        """Give pixels with the model's channels; raise ValueError for what are none."""
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or 0 in picture.shape:
            shape = " x ".join(map(str, picture.shape))
            raise ValueError(
                f"an array of {shape} {picture.dtype}; give uint8, height x width x channels"
            )
        return to_channels(picture, self._run.channels)

    def _place(self, position: int, image: np.ndarray) -> _Placed:
        canvas, geometry = resize_geometry(image.shape[0], image.shape[1], self._run.resize)
        return _Placed(position, image, canvas, geometry)

    def _predict(self, group: list[_Placed], size: int) -> Iterator[tuple[int, Result]]:
        shape = (size, group[0].canvas)
        new = shape not in self._met
        inputs = self._inputs(group, size)
        if self._run.propose is not None:
            with self.times.measure("first" if new else "propose"):
                inputs = self._run.propose(inputs)
        with self.times.measure("first" if new else "infer"):
            detections = self._run.predict(inputs)
        self._met.add(shape)
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
                    image=placed.image,
                ),
            )

    def _inputs(self, group: list[_Placed], size: int) -> Inputs:
        canvas = group[0].canvas
        dtype = self._run.resize.dtype
        pixels = np.zeros((size, *canvas, self._run.channels), dtype)
        sizes = np.ones((size, 2), np.float32)
        for row, (_, image, _, geometry) in enumerate(group):
            pixels[row] = resize_and_pad(image, canvas, geometry, dtype)
            x1, y1, x2, y2 = covered_box(image.shape[0], image.shape[1], canvas, geometry)
            sizes[row] = y2 - y1, x2 - x1
        return Inputs(pixels, sizes, np.arange(size) < len(group))


def _numbers(categories: Sequence[Category], names: Sequence[str]) -> frozenset[int]:
    """Give the model's numbers, 1 .. K-1, of classes by their names."""
    known = [category.name for category in categories]
    for name in names:
        if name not in known:
            mend = suggest(name, known) or f"; it knows {', '.join(known)}"
            raise UserError(f"class {name!r} is none of the model's{mend}")
    return frozenset(known.index(name) + 1 for name in names)


def _read_ahead(read: Callable[[Input], Output], items: Iterable[Input]) -> Iterator[Output]:
    """Map `read` over `items` in order, in threads that are a few items ahead of the reader."""
    with ThreadPoolExecutor(DECODERS) as pool:
        pending: deque[Any] = deque()
        for item in items:
            pending.append(pool.submit(read, item))
            if len(pending) > 2 * DECODERS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _name(picture: Picture, position: int) -> str:
    return f"picture {position}" if isinstance(picture, np.ndarray) else str(picture)
