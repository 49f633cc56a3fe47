"""From what a user names to a record: a picture's file, or a place in a run's data."""

from pathlib import Path

from mtl_jax.data.datasets import splits
from mtl_jax.data.loader.pipeline import find_record
from mtl_jax.data.pixels import materialize
from mtl_jax.data.records import Record
from mtl_jax.errors import UserError
from mtl_jax.experiment import open_data
from mtl_jax.images.decode import decode
from mtl_jax.runs.loading import Run


def named_record(run: Run, workdir: Path, name: str) -> tuple[Record, bool]:
    """Give a record, and whether its annotations are known: those of a picture of the run's data
    are.

    `name` is a file, or SPLIT:NUMBER. Raises UserError where there is no such picture.
    """
    split, _, number = name.partition(":")
    if split in splits.NAMES and number.isdigit():
        return _in_split(run, workdir, split, int(number)), True
    path = Path(name)
    try:
        pixels = decode(path, run.channels)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: {said}; give a picture, or the like of test:0") from None
    found = _by_file(run, workdir, path)
    if found is not None:
        return found, True
    return Record(pixels, pixels.shape[1], pixels.shape[0], 0, path.name), False


def _in_split(run: Run, workdir: Path, split: str, number: int) -> Record:
    sources = open_data(run.setup.experiment, split, workdir, run.categories).sources
    try:
        return materialize(find_record(sources, number))
    except IndexError:
        total = sum(map(len, sources))
        raise UserError(f"{split}:{number}: that split holds {total} records, from 0 on") from None


def _by_file(run: Run, workdir: Path, path: Path) -> Record | None:
    """Look a file up in the run's data, where that is there."""
    wanted = path.resolve()
    for split in splits.NAMES:
        try:
            sources = open_data(run.setup.experiment, split, workdir, run.categories).sources
        except UserError:
            return None  # the data need not be where the model is
        for source in sources:
            for position in range(len(source)):
                record = source[position]
                if isinstance(record.image, Path) and record.image.resolve() == wanted:
                    return materialize(record)
                if not isinstance(record.image, Path):
                    break  # drawn, or packed: none of its records is a file
    return None
