"""Look up the record of an image file or of a position in a run's data."""

from pathlib import Path

from mtl_jax.data.datasets import splits
from mtl_jax.data.loader.collate import find_record
from mtl_jax.data.pixels import materialize
from mtl_jax.data.records import Record
from mtl_jax.errors import UserError
from mtl_jax.images.decode import decode
from mtl_jax.runs.data import open_data
from mtl_jax.runs.loading import Run


def named_record(run: Run, workdir: Path, name: str) -> tuple[Record, bool]:
    """Return a record, and whether its annotations are known, as those of the run's data are.

    `name` is an image file or SPLIT:NUMBER. Raises UserError if there is no such image.
    """
    split, _, number = name.partition(":")
    if split in splits.NAMES and number.isdigit():
        return _in_split(run, workdir, split, int(number)), True
    path = Path(name)
    try:
        pixels = decode(path, run.channels, levels=run.levels)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: {reason}; expected an image or SPLIT:NUMBER") from None
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
        raise UserError(
            f"{split}:{number}: the split has {total} records, numbered from 0"
        ) from None


def _by_file(run: Run, workdir: Path, path: Path) -> Record | None:
    """Return the record of a file of the run's data; None if it or the data is not found."""
    target = path.resolve()
    for split in splits.NAMES:
        try:
            sources = open_data(run.setup.experiment, split, workdir, run.categories).sources
        except UserError:
            continue  # the data may not be on this machine
        for source in sources:
            for position in range(len(source)):
                record = source[position]
                if isinstance(record.image, Path) and record.image.resolve() == target:
                    return materialize(record)
                if not isinstance(record.image, Path):
                    break  # a generated or packed source has no image files
    return None
