"""Folders named by numbers, each of which is complete or absent, even after a kill."""

import os
import shutil
from pathlib import Path

# A folder is written below DRAFTS and renamed when it is complete. It is moved to DELETED before it
# is deleted.
DRAFTS, DELETED = "tmp", "deleted"


class NumberedFolders:
    """The folders in `path` whose names are numbers."""

    def __init__(self, path: Path):
        self.path = path

    def numbers(self) -> list[int]:
        """Return the numbers of the folders in ascending order."""
        names = (path.name for path in self.path.glob("*") if path.is_dir())
        return sorted(int(name) for name in names if name.isdecimal())

    def folder(self, number: int) -> Path:
        """Return the path of a folder, which may be absent."""
        return self.path / str(number)

    def draft(self, number: int) -> Path:
        """Return the path where a folder is written before `commit`."""
        return self.path / DRAFTS / str(number)

    def start_draft(self, number: int) -> None:
        """Remove the remains of others, and create the draft of a folder."""
        self.clean()
        self.draft(number).mkdir(parents=True)

    def commit(self, number: int) -> None:
        """Move a complete draft to its place, and delete a folder of the same number."""
        if self.folder(number).exists():
            self.delete(number)
        os.rename(self.draft(number), self.folder(number))

    def delete(self, number: int) -> None:
        """Delete a folder."""
        moved = self.path / DELETED / str(number)
        shutil.rmtree(moved, ignore_errors=True)
        moved.parent.mkdir(exist_ok=True)
        os.rename(self.folder(number), moved)
        shutil.rmtree(moved.parent, ignore_errors=True)

    def clean(self) -> None:
        """Remove the remains of interrupted writing and deletion."""
        old = self.path.glob("*.orbax-checkpoint-tmp*")  # of an earlier version
        for path in (self.path / DRAFTS, self.path / DELETED, *old):
            shutil.rmtree(path, ignore_errors=True)
