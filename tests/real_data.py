"""Where the real data sets lie, for the tests that look at them."""

import os
from pathlib import Path

import pytest


def data_set(name: str) -> Path:
    """Give the folder of a data set; skip the test where it is not there."""
    root = os.environ.get("MTL_JAX_DATA", "")
    if not root:
        pytest.skip("MTL_JAX_DATA names no folder of data sets")
    folder = Path(root) / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder
