"""The user's folders of this library: its cache, and what it remembers.

Source: the XDG Base Directory Specification.
"""

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Return `mtl_jax` in the user's cache, $XDG_CACHE_HOME or ~/.cache.

    What it contains can be made again. None if the user has no home.
    """
    return _below("XDG_CACHE_HOME", "~/.cache")


def state_folder() -> Path | None:
    """Return `mtl_jax` in the user's state, $XDG_STATE_HOME or ~/.local/state.

    What it contains cannot be made again. None if the user has no home.
    """
    return _below("XDG_STATE_HOME", "~/.local/state")


def _below(variable: str, usual: str) -> Path | None:
    homes = os.environ.get(variable, ""), os.path.expanduser(usual)
    # The specification ignores a relative folder, which could be one of somebody else.
    home = next((home for home in homes if os.path.isabs(home)), None)
    return None if home is None else Path(home) / "mtl_jax"
