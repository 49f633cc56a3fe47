"""`predictions.jsonl`: predictions saved as they are computed, to survive a killed process.

Entries are appended as whole lines. `predictions.progress.jsonl` records each finished image or
video with the byte range of its entries, so that a later process can continue.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from mtl_jax.attributes.base import Attribute
from mtl_jax.errors import UserError
from mtl_jax.inference.output import Predictions

JOURNAL, PROGRESS = "predictions.jsonl", "predictions.progress.jsonl"


class Done(NamedTuple):
    """A finished image or video, and the byte range of its entries in the journal."""

    file_name: str
    first_id: int
    images: int  # 1, or the number of frames of a video
    entries: int
    drawn: int  # entries whose scores are high enough to be drawn
    start: int  # in bytes
    size: int  # in bytes
    fault: str = ""  # reported again by a later process


class Journal:
    """Entries of `Result.to_json`, saved as they are computed. Use it as a context manager.

    `made_by` describes what the predictions depend on. With `resume`, the journal of an unfinished
    process is continued, and `done` contains its finished images and videos by name. Raises
    UserError if there is no such journal or if its `made_by` differs.
    """

    def __init__(self, folder: Path, made_by: Mapping[str, Any], resume: bool = False):
        self.path, self._progress_path = folder / JOURNAL, folder / PROGRESS
        self._made_by = dict(made_by)
        self._progress_end = 0  # bytes of whole lines
        self.done: dict[str, Done] = self._read() if resume else {}
        self._end = _end_of(self.done.values())
        self._opened = ExitStack()
        self._files: tuple[BinaryIO, BinaryIO] | None = None

    def _read(self) -> dict[str, Done]:
        try:
            lines = self._progress_path.read_bytes().splitlines(keepends=True)
        except OSError:
            raise UserError(
                f"{self._progress_path.parent}: no predictions to resume here; omit --resume"
            ) from None
        # The process was killed while it wrote a line without a line end.
        whole = [line for line in lines if line.endswith(b"\n")]
        self._progress_end = sum(map(len, whole))
        try:
            header, *rest = [json.loads(line) for line in whole] or [{}]
            found = [Done(**line) for line in rest]
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{self._progress_path}: cannot be read: {error}; omit --resume to start again"
            ) from None
        for name, value in self._made_by.items():
            if header.get(name) != value:
                raise UserError(
                    f"{self._progress_path}: the interrupted run differs in {name}; "
                    "resume with the same arguments, or omit --resume to start again"
                )
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < _end_of(found):
            raise UserError(
                f"{self.path}: entries of finished images are missing; omit --resume to start again"
            )
        return {one.file_name: one for one in found}

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def add(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Append entries of the image or video that is being processed."""
        text = "".join(f"{json.dumps(e, allow_nan=False, ensure_ascii=False)}\n" for e in entries)
        if text:
            journal, _ = self._open()
            journal.write(text.encode())
            journal.flush()

    def finish(
        self,
        file_name: str,
        first_id: int,
        images: int,
        entries: int,
        drawn: int = 0,
        fault: str = "",
    ) -> None:
        """Record that all entries of an image or video were added, of which `drawn` are drawn."""
        journal, progress = self._open()
        size = journal.tell() - self._end
        done = Done(file_name, first_id, images, entries, drawn, self._end, size, fault)
        progress.write(f"{json.dumps(done._asdict())}\n".encode())
        progress.flush()
        self.done[file_name], self._end = done, self._end + size

    def _open(self) -> tuple[BinaryIO, BinaryIO]:
        if self._files is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Bytes beyond the ends belong to an unfinished image, which is predicted again.
            journal = self._append(self.path, self._end)
            progress = self._append(self._progress_path, self._progress_end)
            if not self._progress_end:
                progress.write(f"{json.dumps(self._made_by)}\n".encode())
                progress.flush()
            self._files = journal, progress
        return self._files

    def _append(self, path: Path, end: int) -> BinaryIO:
        if path.exists():
            os.truncate(path, end)
        return self._opened.enter_context(open(path, "ab"))

    def write(self, declared: Sequence[Attribute], with_csv: bool) -> None:
        """Write `predictions.json`, with `with_csv` also `predictions.csv`; remove the journal.

        Entries are ordered by image id.
        """
        self._open()
        self.__exit__()
        with Predictions(self.path.parent, declared, with_csv) as predictions:
            predictions.add(self._entries())
        for path in (self.path, self._progress_path):
            os.unlink(path)

    def _entries(self) -> Iterator[dict[str, Any]]:
        with self.path.open("rb") as file:
            for done in sorted(self.done.values(), key=lambda one: one.first_id):
                file.seek(done.start)
                end = done.start + done.size
                while file.tell() < end:
                    yield json.loads(file.readline())


def _end_of(done: Iterable[Done]) -> int:
    """Return the end of the last entry of finished images and videos, in bytes."""
    return max((one.start + one.size for one in done), default=0)
