"""The persistent cache of compiled programs: a second run starts at once."""

import os
from pathlib import Path

import jax


def enable_compilation_cache(folder: str = "") -> str:
    """Keep what XLA compiles in a folder, and give its path.

    The folder is JAX_COMPILATION_CACHE_DIR where that is set, else the one given, else
    `mtl_jax/xla` in the user's cache. Programs that compile in a blink are kept too: there are
    hundreds of them.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR") or folder or str(home / "mtl_jax" / "xla")
    jax.config.update("jax_compilation_cache_dir", chosen)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return chosen
