"""Access to real data sets for tests."""

import os
from pathlib import Path

import pytest


def data_set(name: str) -> Path:
    """Return the folder of a data set below MTL_JAX_DATA; skip the test if it does not exist."""
    root = os.environ.get("MTL_JAX_DATA", "")
    if not root:
        pytest.skip("MTL_JAX_DATA is not set; set it to the folder of the data sets")
    folder = Path(root) / name
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist")
    return folder
