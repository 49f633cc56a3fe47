"""Prediction on image and video files: writes `predictions.json`, overlays and crops."""

import hashlib
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.errors import FaultSummary, UserError, shorten
from mtl_jax.images.decode import write_png
from mtl_jax.inference.collect import InputFile, collect, is_misnamed
from mtl_jax.inference.journal import Journal
from mtl_jax.inference.output import WRITTEN, clear_crops, write_crops
from mtl_jax.inference.predictor import CONFIDENT, Predictor
from mtl_jax.inference.video import Video, VideoWriter
from mtl_jax.io.atomic import fit_name
from mtl_jax.results import Result
from mtl_jax.visualize.drawing.draw import enlarge, to_show
from mtl_jax.visualize.drawing.styles import LABELLED, STYLES
from mtl_jax.visualize.drawing.window import Window

MANY = 10  # at most so many skipped files of one suffix are listed; more are counted


@dataclass(frozen=True)
class OutputOptions:
    """What is written in addition to `predictions.json`."""

    style: str = "overlay"  # a key of visualize.drawing.styles.STYLES
    csv: bool = False  # also write predictions.csv
    crops: bool = False  # also write crops/<name>/<number>_<class>.png
    show: bool = False  # also show overlays in a window
    resume: bool = False  # continue where an earlier process stopped


def predict_folder(
    predictor: Predictor,
    inputs: Sequence[str | Path],
    output: str | Path,
    options: OutputOptions | None = None,
) -> int:
    """Predict images and videos, write the results below `output` and return the exit code.

    Writes `predictions.json`, and `overlays/<name>.png` for each image or `overlays/<name>.mp4`
    for each video in `inputs`. Prints the time spent on each part.

    Entries are appended to `predictions.jsonl` as they are computed. If an error or a signal ends
    this function, they stay there, and a call with `options.resume` continues from them.

    Exit codes: 0: all files were read; 1: some files were skipped or ended early, each named on
    stderr; 2: no file could be read. Raises UserError if an input does not exist, `output` is not a
    folder, or the predictions cannot be resumed.
    """
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: the output must be a folder, but this is a file")
    images, videos, others = collect(inputs, leave_out=[output / name for name in WRITTEN])
    start = time.perf_counter()
    options = options or OutputOptions()
    _report_others(others)
    names = "\n".join(f"{file.path.resolve()} {file.name}" for file in (*images, *videos))
    made_by = {
        "model": predictor.name,
        "files": hashlib.sha256(os.fsencode(names)).hexdigest(),
        "style": options.style,
        "crops": options.crops,
    }
    with Journal(output, made_by, options.resume) as journal:
        job = _Job(predictor, output, options, journal)
        try:
            job.predict_images(images)
            first_id = len(images)
            for file in videos:
                first_id += job.predict_video(file, first_id)
        except BaseException:
            if journal.done:
                saved = f"{len(journal.done)} images and videos are saved in {journal.path}"
                print(f"{saved}; rerun with --resume to continue", file=sys.stderr)
            raise
        _report_rest(job.skipped)
        if job.total:
            journal.write(predictor.attributes, options.csv)
    if not job.total:
        print(f"no image or video could be read in {', '.join(map(str, inputs))}", file=sys.stderr)
        return 2
    print(f"{job.counted()}, {job.detections} detections: {output / 'predictions.json'}")
    drawn = f", {job.drawn} detections with a score of at least {CONFIDENT} (see --threshold)"
    print(f"overlays: {output / 'overlays'}{drawn if job.drawn < job.detections else ''}")
    print(predictor.times.line(job.total - job.resumed, time.perf_counter() - start))
    return 1 if job.faults or others else 0


class _Job:
    """Predicts images and videos, writes their files and counts them."""

    def __init__(
        self, predictor: Predictor, output: Path, options: OutputOptions, journal: Journal
    ):
        self._predictor = predictor
        self._output = output
        self._options = options
        self._journal = journal
        self._window = Window() if options.show else None
        self.images = self.frames = self.detections = self.drawn = self.faults = 0
        self.skipped = FaultSummary()
        self.resumed = 0  # images and frames of an earlier process

    @property
    def total(self) -> int:
        return self.images + self.frames

    def counted(self) -> str:
        """Return the numbers of images and frames that were read, as text."""
        frames = f"{self.frames} frames" if self.frames else ""
        images = f"{self.images} images" if self.images or not frames else ""
        return " and ".join(filter(None, (images, frames)))

    def predict_images(self, files: Sequence[InputFile]) -> None:
        """Predict images and write their results."""
        self.images += sum(self._count_done(file) for file in files)
        left = [i for i, file in enumerate(files) if file.name not in self._journal.done]
        for place, result in self._predictor.predict_files([files[i].path for i in left]):
            position = left[place]
            name = files[position].name
            if isinstance(result, Exception):
                self._skip(files[position], result)
                continue
            drawn_before = self.drawn
            with self._predictor.times.measure("draw"):
                self._clear_crops(name)
                drawn = self._draw(result, name, enlarges=True)
                write_png(fit_name(self._output / "overlays" / f"{name}.png"), drawn)
                entries = result.to_json(position, name)
                self._add(entries)
                self._journal.finish(name, position, 1, len(entries), self.drawn - drawn_before)
            self._show(drawn, wait=True)
            self.images += 1

    def predict_video(self, file: InputFile, first_id: int) -> int:
        """Predict a video, write its results and return the number of frames read.

        Image ids count from `first_id`.
        """
        if frames := self._count_done(file):
            self.frames += frames
            return frames
        read, times = 0, self._predictor.times
        found, drawn_before = self.detections, self.drawn
        try:
            video = Video(file.path)
            self._clear_crops(file.name)
            with VideoWriter(self._output / "overlays" / file.name, video.fps) as writer:
                for result in self._predictor.predict_frames(video.frames(times)):
                    with times.measure("draw"):
                        drawn = self._draw(result, file.name, f"{read:06d}_")
                        writer.write(drawn)
                        place = {"frame": read, "time": round(video.time_of(read), 3)}
                        entries = result.to_json(first_id + read, file.name)
                        self._add([{**entry, **place} for entry in entries])
                    self._show(drawn, wait=False)
                    read += 1
        except ValueError as error:  # an unreadable file, or a model with other channels
            if read:
                raise
            self._skip(file, error)
            return 0
        if not read:
            self._skip(file, ValueError("no frame could be read"))
            return 0
        if abs(writer.fps - video.fps) > 0.01:
            print(f"{writer.path}: {writer.fps:g} frames per second instead of {video.fps:.3f}")
        fault = ""
        if video.breaks_off(read):
            fault = f"ends after {read} of {video.count} frames, which were predicted"
            self._warn(file, fault)
        entries, drawn = self.detections - found, self.drawn - drawn_before
        self._journal.finish(file.name, first_id, read, entries, drawn, fault)
        self.frames += read
        return read

    def _count_done(self, file: InputFile) -> int:
        """Return the number of images or frames of `file` if an earlier process finished it, else
        0. Counts its detections and reports its fault.
        """
        done = self._journal.done.get(file.name)
        if done is None:
            return 0
        self.resumed += done.images
        self.detections += done.entries
        self.drawn += done.drawn
        if done.fault:
            self._warn(file, done.fault)
        return done.images

    def _warn(self, file: InputFile, fault: str) -> None:
        print(shorten(f"{file.path}: {fault}"), file=sys.stderr)
        self.faults += 1

    def _skip(self, file: InputFile, error: Exception) -> None:
        _report(file, error, self.skipped)
        self.faults += 1

    def _draw(
        self, result: Result, name: str, prefix: str = "", enlarges: bool = False
    ) -> np.ndarray:
        assert result.image is not None
        self.drawn += len(to_show(result.image, result))
        if self._options.crops:
            write_crops(self._output / "crops" / name, result.image, result, prefix)
        style, shown = self._options.style, (result.image, result)
        if enlarges and style in LABELLED:
            shown = enlarge(*shown)
        return STYLES[style](*shown)

    def _clear_crops(self, name: str) -> None:
        if self._options.crops:
            clear_crops(self._output / "crops" / name)

    def _show(self, drawn: np.ndarray, wait: bool) -> None:
        if self._window is not None:
            self._window.show(drawn, wait)

    def _add(self, entries: list[dict[str, Any]]) -> None:
        self._journal.add(entries)
        self.detections += len(entries)


def _report_others(others: Sequence[InputFile]) -> None:
    """Report files that are neither images nor videos, or not named in UTF-8, on stderr."""
    faults = FaultSummary()
    misnamed = [file for file in others if is_misnamed(file.path)]
    for file in misnamed:
        fault = ValueError("the file name is not valid UTF-8; rename the file")
        _report(file, fault, faults)
    others = [file for file in others if file not in misnamed]
    kinds = Counter(file.path.suffix.lower() for file in others)
    for kind, count in kinds.items():
        matching = [file for file in others if file.path.suffix.lower() == kind]
        if count > MANY:
            print(f"skipped {count} {kind or 'other'} files: not images or videos", file=sys.stderr)
            continue
        for file in matching:
            fault = "the file is empty" if _is_empty(file.path) else "not an image or video"
            _report(file, ValueError(fault), faults)
    _report_rest(faults)


def _report(file: InputFile, error: Exception, faults: FaultSummary) -> None:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if line := faults.add(f"skipped {file.path}: {reason}"):
        print(line, file=sys.stderr)


def _report_rest(faults: FaultSummary) -> None:
    for line in faults.rest():
        print(line, file=sys.stderr)


def _is_empty(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0
